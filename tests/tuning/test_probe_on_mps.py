"""probe-batch on the simulated MPS device: its memory limit, and the ways in which the real one fails."""

import json

import pytest

SHORT = ("--bins", "31/21")
RECOMMENDED = 32 << 20


def one_trial(size, limit=None, steps=None):
    from transit_cli.results import TransitError
    from transit_cli.tuning.trials import trial
    from transit_cli.tuning.trials.spec import TrialSpec

    spec = TrialSpec(size, views={"global": 31, "local": 21}, limit_bytes=limit, steps=steps)
    try:
        ran, machine = trial.run(spec, 100)
    except TransitError as error:
        return error.found
    return [str(ran.verdict), ran.detail, machine.device]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("abort:convolution@size>=40", ["crashed", "SIGABRT"]),
        ("out-of-memory:convolution_backward@size>=40", ["out of memory", "MPS backend out of memory"]),
        ("error:convolution@size>=40", ["not for want of memory: RuntimeError"]),
    ],
)
def test_what_a_failure_on_mps_is_taken_for(mps, fault, words):
    found = json.dumps(mps.run(one_trial, 40, faults=[fault]).value)
    assert all(word in found for word in words), found


def probe(mps, *options, **planted):
    done = mps.transit("probe-batch", *SHORT, "--json", *options, timeout=280, **planted)
    return done, json.loads(done.stdout)


def sizes(data, *verdicts):
    return {trial["batch_size"] for trial in data["trials"] if trial["verdict"] in verdicts}


@pytest.mark.torture
def test_the_answer_fills_the_recommended_memory_and_no_more(mps):
    done, document = probe(mps, recommended_memory=RECOMMENDED)
    assert done.returncode == 0, done.stderr
    data = document["data"]
    assert data["device"] == "mps"
    assert data["memory_limit_bytes"] <= 0.85 * RECOMMENDED
    assert data["verified"]
    assert data["stopped_by"] == "the memory limit"
    answer = data["largest_safe_batch"]
    proof = next(trial for trial in data["trials"] if trial["proof"] and trial["batch_size"] == answer)
    assert 0.75 * data["memory_limit_bytes"] < proof["peak_memory_bytes"] <= data["memory_limit_bytes"]
    again, larger = (
        mps.run(one_trial, size, data["memory_limit_bytes"], 200, recommended_memory=RECOMMENDED, timeout=280).value
        for size in (answer, int(1.3 * answer))
    )
    assert again == ["fits", "", "mps"]
    assert larger[0] in {"out of memory", "over the limit"}


@pytest.mark.torture
@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        ("abort:convolution@size>=40", "crashed", "the process crashed"),
        ("out-of-memory:convolution_backward@size>=40", "out of memory", "memory ran out"),
        ("hang:convolution@size>=40", "too slow", "the time limit of a trial"),
    ],
)
def test_sizes_that_fail_cost_a_trial_each(mps, fault, verdict, words):
    done, document = probe(mps, "--seconds", "40", faults=[fault])
    assert done.returncode == 0, done.stderr
    data = document["data"]
    assert data["stopped_by"] == words
    assert 32 <= data["largest_safe_batch"] < 40
    assert sizes(data, verdict)
    assert max(sizes(data, "fits")) < 40 <= min(sizes(data, verdict))
    assert verdict != "crashed" or any("SIGABRT" in warning for warning in document["warnings"])


@pytest.mark.torture
def test_an_error_that_is_not_about_memory_ends_the_search(mps):
    done, document = probe(mps, faults=["error:convolution@size>=40"])
    assert done.returncode == 5
    assert document["errors"][0]["code"] == "step-failed"
