"""`bench` and `profile` with `--execution metal` on the simulated device, which counts and does not time."""

import json

import pytest

SMALL = ["--network", "two-branch", "--bins", "32/16", "--device", "mps", "--json"]


pytestmark = pytest.mark.usefixtures("metal_shim")


@pytest.mark.torture
@pytest.mark.parametrize("execution", ["metal", "eager"])
def test_bench_trains_and_scores_with_the_execution_that_was_asked_for(mps, execution):
    asked = ["--batch-size", "4", "--seconds", "1", "--precision", "fp32", "--execution", execution]
    done = mps.transit("bench", *SMALL, *asked, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = {row["pass"]: row for row in json.loads(done.stdout)["data"]["figures"]}
    assert rows["train"]["execution"] == execution
    assert rows["infer"]["execution"] == ("metal" if execution == "metal" else "")
    launched = done.counters["launched"]
    if execution == "eager":
        assert not launched
    else:
        assert min(launched[name] for name in ("convolve", "head", "weight_gradients", "adam")) > 5


@pytest.mark.torture
def test_profile_shows_the_phases_of_eager_and_the_time_of_the_kernels(mps, tmp_path):
    asked = ["--batch-size", "4", "--steps", "5", "--growth-steps", "0", "--execution", "metal", "--out", str(tmp_path)]
    done = mps.transit("profile", *SMALL, *asked, env={"PYTORCH_ENABLE_MPS_FALLBACK": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert (data["execution"], data["train_execution"]) == ("eager", "metal")
    assert all(data["phase_seconds"][name] > 0 for name in ("forward", "backward", "optimizer"))
    assert done.counters["launched"]["adam"] >= 3
