"""The accelerators' side of the protocol: MPS on the simulated device, CUDA where there is a GPU, errors anywhere."""

import subprocess
import sys

import pytest
import torch

from transit_cli.device import mps as mps_module
from transit_cli.device.cuda import CudaDevice
from transit_cli.device.machine import least_macos, older
from transit_cli.device.mps import MpsDevice


def everything(kind):
    """What a device answers, as JSON; the same for every kind."""
    import torch

    torch.set_num_threads(1)
    from transit_cli.device import precision
    from transit_cli.device.select import select
    from transit_cli.memory.monitor import Monitor

    device = select(kind)
    found = {"kind": device.kind, "max_batch": device.max_batch, "cores": device.facts.cores}
    state = device.rng_state()
    first = torch.rand(5, device=device.torch_device)
    device.set_rng_state(state)
    found["repeats"] = torch.equal(first, torch.rand(5, device=device.torch_device))

    before = device.memory().allocated
    with Monitor(device, interval=0.01) as monitor:
        block = torch.zeros(4 << 20, device=device.torch_device)  # 16 MiB
        found["allocated"] = device.memory().allocated - before
        monitor.sample()
        del block
        device.empty_cache()
    found["peak"] = monitor.peak.allocated - before
    found["left"] = device.memory().allocated - before

    timer = device.timer()
    for _ in range(3):
        timer.mark()
        first @ first
    found["intervals"] = len(timer.seconds())

    whole = device.memory().limit
    device.cap_memory((64 << 20) / whole)
    found["capped"] = abs(device.memory().limit - (64 << 20)) <= 1
    try:
        torch.zeros(64 << 20, device=device.torch_device)
    except RuntimeError as error:
        found["out_of_memory"] = device.is_out_of_memory(error)
        found["unsupported"] = device.is_unsupported_operator(error)
    for name in ("fp16", "bf16"):
        with precision.autocast(device, precision.resolve(device, name)):
            product = torch.ones(2, 2, device=device.torch_device) @ torch.ones(2, 2, device=device.torch_device)
        found[name] = str(product.dtype)
    return found


EXPECTED = {
    "repeats": True,
    "allocated": 16 << 20,
    "peak": 16 << 20,
    "left": 0,
    "intervals": 2,
    "capped": True,
    "out_of_memory": True,
    "unsupported": False,
    "fp16": "torch.float16",
    "bf16": "torch.bfloat16",
}


def test_the_simulated_mps_device_answers_everything(mps):
    done = mps.run(everything, "mps")
    assert done.returncode == 0, done.stderr
    assert {key: done.value[key] for key in EXPECTED} == EXPECTED
    cores = 10 if hasattr(torch.backends.mps, "get_core_count") else None  # since torch 2.9
    assert (done.value["kind"], done.value["max_batch"], done.value["cores"]) == ("mps", 65_535, cores)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_the_cuda_device_answers_everything():
    import inspect
    import json

    code = f"{inspect.getsource(everything)}\nimport json\nprint(json.dumps(everything('cuda')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    assert {key: found[key] for key in EXPECTED} == EXPECTED


OPERATOR = "The operator 'aten::x' is not currently implemented for the MPS device. If you want this op"
FULL = "MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1 MB, max allowed: 9.07 GB)."


@pytest.mark.parametrize(
    ("device", "error", "memory", "operator"),
    [
        (MpsDevice, RuntimeError(FULL), True, False),
        (MpsDevice, RuntimeError("Invalid buffer size: 20.00 GiB"), True, False),
        (MpsDevice, RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True, False),
        (MpsDevice, NotImplementedError(OPERATOR), False, True),
        (MpsDevice, NotImplementedError("Output channels > 65536 not supported at the MPS device."), False, True),
        (MpsDevice, TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework"), False, True),
        (MpsDevice, TypeError("forward() missing 1 required positional argument"), False, False),
        (MpsDevice, RuntimeError("view size is not compatible"), False, False),
        (CudaDevice, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True, False),
        (CudaDevice, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True, False),
        (CudaDevice, RuntimeError("CUDA error: no kernel image is available for execution"), False, True),
        (CudaDevice, RuntimeError("CUDA error: device-side assert triggered"), False, False),
    ],
)
def test_errors_by_the_words_that_torch_uses(device, error, memory, operator):
    unopened = object.__new__(device)  # telling errors apart needs no device
    assert unopened.is_out_of_memory(error) is memory
    assert unopened.is_unsupported_operator(error) is operator


@pytest.mark.parametrize(
    ("torch_version", "macos", "too_old"),
    [("2.8.0", "13.0", False), ("2.9.0", "13.7.8", True), ("2.9.1", "14.0", False), ("2.13.0+cpu", "26.4", False)],
)
def test_the_oldest_macos_of_a_torch(torch_version, macos, too_old):
    assert older(macos, least_macos(torch_version)) is too_old


def test_a_torch_that_records_steps_on_mps_is_known(monkeypatch):
    assert not mps_module.has_metal_graph()
    monkeypatch.setattr(torch.mps, "MetalGraph", object, raising=False)
    assert mps_module.has_metal_graph()


def test_a_torch_without_compile_shader_says_so(monkeypatch):
    monkeypatch.delattr(torch.mps, "compile_shader")
    with pytest.raises(RuntimeError, match=r"no torch\.mps\.compile_shader"):
        MpsDevice.compile_shader(None, "")
