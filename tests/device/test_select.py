"""Opening a device: the best one, the one asked for, or an error that says why not."""

import pytest
import torch

from transit_cli.device import precision
from transit_cli.device.select import available, select
from transit_cli.results import ExitCode, TransitError


def test_auto_opens_the_first_kind_that_is_there():
    first = next(kind for kind, reason in available().items() if not reason)
    assert select().kind == first


def test_the_cpu_is_always_there_and_answers():
    device = select("cpu")
    assert device.torch_device == torch.device("cpu")
    assert device.max_batch is None
    assert device.facts.cores >= 1
    memory = device.memory()
    assert 0 < memory.allocated <= memory.limit


@pytest.mark.parametrize("kind", ["mps", "cuda"])
def test_an_absent_device_is_an_error_that_says_why(kind):
    reason = available()[kind]
    if not reason:
        pytest.skip(f"{kind} is there")
    with pytest.raises(TransitError, match=kind) as caught:
        select(kind)
    assert reason in caught.value.found
    assert caught.value.exit_code is ExitCode.MACHINE


def test_an_unknown_device_is_a_usage_error():
    with pytest.raises(TransitError) as caught:
        select("gpu")
    assert caught.value.exit_code is ExitCode.USAGE


def test_random_numbers_go_on_from_a_state():
    device = select("cpu")
    state = device.rng_state()
    first = torch.rand(3)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(
    ("error", "memory", "operator"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True, False),
        (RuntimeError("could not create a primitive"), True, False),
        (MemoryError(), True, False),
        (RuntimeError("shape '[2]' is invalid"), False, False),
        (ValueError("out of memory"), False, False),
        (NotImplementedError('"conv" not implemented'), False, True),
    ],
)
def test_errors_are_told_apart(error, memory, operator):
    device = select("cpu")
    assert device.is_out_of_memory(error) is memory
    assert device.is_unsupported_operator(error) is operator


def test_a_timer_gives_the_time_between_marks():
    timer = select("cpu").timer()
    for _ in range(3):
        timer.mark()
    assert len(timer.seconds()) == 2
    assert all(seconds >= 0 for seconds in timer.seconds())


@pytest.mark.parametrize(("choice", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_takes_effect(choice, dtype):
    device = select("cpu")
    chosen = precision.resolve(device, choice)
    with precision.autocast(device, chosen):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype
    assert precision.scaler(device, chosen).is_enabled() is (choice == "fp16")


def test_a_precision_that_would_be_disabled_is_refused(monkeypatch):
    device = select("cpu")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    with pytest.raises(TransitError, match="fp16"):
        precision.resolve(device, "fp16")
    assert precision.resolve(device, "auto") == "fp32"
