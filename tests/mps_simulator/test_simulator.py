"""The simulated device itself: unmodified PyTorch trains on it, it fails as the real one does, and planted faults show."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mps_simulator import build
from tests.mps_simulator.faults import Fault
from tests.mps_simulator.run import ROOT, environment


def losses(device, fused, half):
    """Train a small network for eight steps; its losses."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [
        nn.Conv1d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.BatchNorm1d(8),
        nn.Flatten(),
        nn.Linear(800, 1),
    ]
    network = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=8)
    scaler = torch.amp.GradScaler(device, enabled=half)
    noise = torch.Generator().manual_seed(1)
    found = []
    for _ in range(8):
        targets = torch.randint(0, 2, (16, 1), generator=noise).float()
        inputs = torch.randn(16, 1, 201, generator=noise)
        inputs[:, 0, 90:110] -= 2 * targets  # a transit
        inputs, targets = inputs.to(device), targets.to(device)
        with torch.autocast(device, dtype=torch.float16, enabled=half):
            logits = network(inputs)
        loss = nn.functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=targets.new_tensor(3.0)
        )
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(("fused", "half", "tolerance"), [(False, False, 1e-5), (True, True, 5e-3)])
def test_training_follows_the_cpu(mps, fused, half, tolerance):
    done = mps.run(losses, "mps", fused, half)
    assert done.returncode == 0, done.stderr
    reference = losses("cpu", fused, half)
    assert reference[-1] < 0.9 * reference[0]
    assert done.value == pytest.approx(reference, abs=tolerance)
    assert {"_mps_convolution", "mps_convolution_backward", "linear", "linear_backward"} <= set(done.counters["ran"])
    assert ("_fused_adamw_" in done.counters["ran"]) == fused
    assert not done.counters["fell_back"]
    assert done.counters["synchronised"]["_local_scalar_dense"] >= 8


def test_what_a_program_asks_a_device(mps):
    def ask():
        import io
        import time

        import simulated_mps
        import torch

        first, last = (torch.mps.Event(enable_timing=True) for _ in range(2))
        first.record()
        time.sleep(0.02)
        last.record()
        torch.mps.synchronize()
        state = torch.mps.get_rng_state()
        drawn = torch.rand(3, device="mps")
        torch.mps.set_rng_state(state)
        again = torch.rand(3, device="mps")
        cpu = torch.get_rng_state()
        torch.nn.functional.dropout(drawn)
        undisturbed = torch.equal(cpu, torch.get_rng_state())
        saved = io.BytesIO()
        torch.save(torch.nn.Linear(2, 2).to("mps").state_dict(), saved)
        saved.seek(0)
        loaded = torch.load(saved, map_location="mps", weights_only=True)
        return {
            "available": torch.backends.mps.is_available() and torch.backends.mps.is_built(),
            "accelerator": str(torch.accelerator.current_accelerator()),
            "name": torch._C._mps_get_name(),  # torch.backends.mps.get_name(), since 2.9
            "cores": torch._C._mps_get_core_count(),
            "devices": torch.mps.device_count(),
            "milliseconds": first.elapsed_time(last),
            "reproducible": torch.equal(drawn.cpu(), again.cpu()),
            "cpu_undisturbed": undisturbed,
            "loaded": str(loaded["bias"].device),
            "generator": str(torch.Generator("mps").device),
            "recommended": torch.mps.recommended_max_memory(),
            "synchronised": simulated_mps.counters()["synchronised"]["synchronize"],
        }

    done = mps.run(ask)
    assert done.returncode == 0, done.stderr
    milliseconds = done.value.pop("milliseconds")
    assert 20 <= milliseconds < 2000
    assert done.value == {
        "available": True,
        "accelerator": "mps",
        "name": "Apple M4 (simulated)",
        "cores": 10,
        "devices": 1,
        "reproducible": True,
        "cpu_undisturbed": True,
        "loaded": "mps:0",
        "generator": "mps:0",
        "recommended": 11453251584,
        "synchronised": 1,
    }


def test_memory_is_cached_limited_and_given_back(mps):
    def use():
        import torch

        def read():
            return torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()

        seen = [read()]
        tensor = torch.empty(1 << 20, device="mps")
        seen.append(read())
        del tensor
        seen.append(read())
        torch.mps.empty_cache()
        seen.append(read())
        messages = []
        for limit in (lambda: None, lambda: torch.mps.set_per_process_memory_fraction(0.0001)):
            limit()
            try:
                torch.empty(20 << 20, device="mps")
            except RuntimeError as error:
                messages.append([type(error).__name__, str(error)])
        return seen, messages

    done = mps.run(use, memory_limit=50 << 20)
    assert done.returncode == 0, done.stderr
    seen, messages = done.value
    four = 4 << 20
    assert seen == [[0, 0], [four, four], [0, four], [0, 0]]
    assert [name for name, _ in messages] == ["RuntimeError", "RuntimeError"]
    assert (
        "MPS backend out of memory (MPS allocated: 0 bytes, other allocations: 0 bytes, max allowed: 50.00 MiB)"
        in messages[0][1]
    )
    assert "max allowed: 1.09 MiB" in messages[1][1]


@pytest.mark.parametrize(
    ("high", "outcome"),
    [("0.9", "invalid low watermark ratio 1.4"), ("nonsense", "had it"), ("1.5", "out of memory")],
)
def test_watermarks_are_read_at_the_first_allocation(mps, high, outcome):
    script = """
        import os, torch
        os.environ["PYTORCH_MPS_HIGH_WATERMARK_RATIO"] = os.environ["HIGH"]  # after the import, and still in time
        try:
            tensors = [torch.empty(1 << 18, device="mps") for _ in range(2)]
            print("had it")
        except RuntimeError as error:
            print(error)
        """
    done = mps.run(script, env={"HIGH": high}, recommended_memory=1 << 20)
    assert outcome in done.stdout, done.stderr


def test_an_operator_that_mps_lacks(mps):
    script = """
        import os, warnings, torch
        os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"  # too late
        x = torch.ones(3, device="mps")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                torch.heaviside(x, x)
                torch.special.airy_ai(x)
                print(len(caught), caught[0].message)
            except NotImplementedError as error:
                print("refused", error)
        """
    off, on = (mps.run(script, env={"PYTORCH_ENABLE_MPS_FALLBACK": value}) for value in ("0", "1"))
    assert "refused The operator 'aten::heaviside.out' is not currently implemented for the MPS device." in off.stdout
    assert on.stdout.startswith("1 The operator 'aten::heaviside.out' is not currently supported on the MPS backend")
    assert on.counters["fell_back"] == {"heaviside.out": 1, "special_airy_ai.out": 1}


def test_a_fallback_variable_that_is_no_number_ends_the_import_of_torch(mps):
    assert mps.run("import torch", env={"PYTORCH_ENABLE_MPS_FALLBACK": "true"}).returncode == -signal.SIGABRT


def test_float64_and_shapes_that_real_kernels_refuse(mps):
    def refuse():
        import torch

        def message(call):
            try:
                call()
            except (RuntimeError, TypeError) as error:
                return f"{type(error).__name__}: {error}"
            return "nothing"

        x = torch.ones(1, 1, 10, device="mps")
        return [
            message(lambda: torch.zeros(2, dtype=torch.float64).to("mps")),
            message(lambda: torch.nn.functional.adaptive_avg_pool1d(x, 3)),
            message(lambda: torch.nn.functional.adaptive_avg_pool1d(x, 5)),
            message(lambda: torch.nn.functional.conv1d(torch.ones(1, 1, 66_000, device="mps"), x[..., :1])),
        ]

    double, pool, fine, long = mps.run(refuse, env={"PYTORCH_ENABLE_MPS_FALLBACK": "1"}).value
    assert double.startswith("TypeError: Cannot convert a MPS Tensor to float64 dtype")
    assert "input sizes must be divisible by output sizes" in pool
    assert fine == "nothing"
    assert long.startswith("NotImplementedError: Output channels > 65536 not supported")


def faulty_steps(plans):
    """A small forward and backward pass under each plan of faults: [output, gradient], or the error's text."""
    import simulated_mps
    import torch

    def step():
        torch.manual_seed(0)
        weight = torch.randn(2, 3, device="mps", requires_grad=True)
        inputs = torch.randn(4, 3, device="mps")
        output = torch.nn.functional.gelu(torch.nn.functional.linear(inputs, weight)).sum()
        output.backward()
        return [output.item(), weight.grad.sum().item()]

    found = []
    for plan in plans:
        simulated_mps.clear_faults()
        simulated_mps.reset_counters()
        for fault in plan:
            simulated_mps.add_fault(**fault)
        try:
            found.append(step())
        except RuntimeError as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def test_wrong_numbers_forward_and_backward(mps):
    plans = [[], ["wrong:gelu:0.5"], ["wrong:linear_backward:-1"], ["wrong:gelu@size>=65536", "wrong:gelu@bfloat16"]]
    done = mps.run(faulty_steps, [[Fault.parse(fault).arguments() for fault in plan] for plan in plans])
    assert done.returncode == 0, done.stderr
    right, forward, backward, elsewhere = done.value
    assert forward == pytest.approx([1.5 * right[0], right[1]])
    assert backward == pytest.approx([right[0], 0.0])
    assert elsewhere == right


@pytest.mark.parametrize("variable", ["0", "1"])
def test_faults_that_raise(mps, variable):
    expected = {
        "refuse:gelu": "NotImplementedError: Output channels > 65536",
        "out-of-memory:gelu_backward": "RuntimeError: MPS backend out of memory",
        "error:linear": "RuntimeError: MPS: the command buffer of linear ended with an error",
        "missing:gelu": "NotImplementedError: The operator 'aten::gelu.out' is not currently implemented",
    }
    faults = [[Fault.parse(fault).arguments()] for fault in expected]
    done = mps.run(faulty_steps, faults, env={"PYTORCH_ENABLE_MPS_FALLBACK": variable})
    assert done.returncode == 0, done.stderr
    *others, missing = zip(done.value, expected.values(), strict=True)
    assert all(words.startswith(beginning) for words, beginning in others)  # the variable helps with none of these
    assert isinstance(missing[0], list) if variable == "1" else missing[0].startswith(missing[1])
    assert done.counters["fell_back"] == {"gelu.out": 1}


LINEAR = "import torch; torch.nn.functional.linear(*(torch.ones(2, 2, device='mps') for _ in range(2)))"


def test_an_abort_ends_the_process(mps):
    done = mps.run(LINEAR, faults=["abort:linear"])
    assert done.returncode == -signal.SIGABRT
    assert "LLVM ERROR" in done.stderr


@pytest.mark.torture
def test_a_hang_does_not_end(mps):
    with pytest.raises(subprocess.TimeoutExpired):
        mps.run(LINEAR, faults=["hang:linear"], timeout=10)


def test_a_slow_operator_and_a_late_fault(mps):
    script = """
        import time, torch
        x = torch.ones(3, device="mps")
        for _ in range(2):
            start = time.perf_counter()
            torch.nn.functional.gelu(x)
            print(time.perf_counter() - start)
        """
    first, second = map(float, mps.run(script, faults=["slow:gelu:0.3@call>=2"]).stdout.split())
    assert first < 0.3 <= second


def test_children_of_a_child_have_the_device_too(mps):
    script = """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "import torch; torch.ones(3, device='mps').exp()"], check=True)
        """
    done = mps.run(script)
    assert done.returncode == 0, done.stderr
    assert done.counters["ran"]["exp.out"] == 1


def test_transit_runs_on_it_and_torch_stays_unimported_until_asked(mps):
    done = mps.transit("plugins", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["command"] == "plugins list"
    quiet = mps.run("import sys, transit_cli.app; print('torch' in sys.modules)")
    assert quiet.stdout == "False\n"


def test_from_a_shell(mps):
    code = "import torch; torch.nn.functional.gelu(torch.ones(1, device='mps'))"
    command = [sys.executable, "-m", "tests.mps_simulator.run", "--fault", "missing:gelu", "--python", "--", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "aten::gelu.out' is not currently implemented" in done.stderr


def test_faults_as_text():
    assert Fault.parse("wrong:addcmul:0.1@strided,float16,size>=65536,call>=3") == Fault(
        "wrong", "addcmul", 0.1, strided=True, dtype="float16", size=65536, call=3
    )
    for text in ("explode:gelu", "wrong:gelu@sometimes"):
        with pytest.raises(ValueError):
            Fault.parse(text)


def test_several_that_want_it_at_once_build_it_once(mps, tmp_path, monkeypatch):
    """The compiler is replaced by one that counts its runs: the real build takes half a minute."""
    monkeypatch.setenv("TRANSIT_TESTS_CACHE", str(tmp_path))
    runs = []

    def compile_slowly(folder):
        runs.append(folder)
        built = folder / f"{build.NAME}.so"
        built.write_text("built")
        return built

    monkeypatch.setattr(build, "_compile", compile_slowly)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: build.library(), range(4)))
    assert len(runs) == len(found) == 1
    assert found.pop().read_text() == "built"


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSIT_TESTS_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.Unavailable, match=r"a C\+\+ compiler"):
        environment()


def test_without_a_compiler_tests_skip_but_not_on_ci(tmp_path):
    (tmp_path / "conftest.py").write_text("from tests.mps_simulator.fixture import mps\n")
    (tmp_path / "test_it.py").write_text("def test_it(mps):\n    pass\n")
    surroundings = os.environ | {
        "TRANSIT_TESTS_CACHE": str(tmp_path),
        "CXX": "no-such-compiler",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    for ci, outcome in (("", "1 skipped"), ("true", "1 error")):
        done = subprocess.run(
            command, env=surroundings | {"CI": ci}, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert outcome in done.stdout
        assert "needs a C++ compiler" in done.stdout
