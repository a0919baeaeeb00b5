"""The proof finds what is planted: on the simulated MPS device every fault in its own row, on the CPU wrong kernels.

What is simulated is said: the device's numbers are the CPU's, so nothing here shows that a Mac's are right.
"""

import json

import pytest

from transit_cli.device import environment


def rows_with_faults():
    """One process, one import of torch: every row without a fault, then with each fault alone."""
    import torch

    torch.set_num_threads(1)
    import simulated_mps

    from transit_cli.doctor.check_process import Devices

    parts = ("memory", "step", "strided", "fp16", "bf16")
    found = {}

    def look(name, *looked):
        devices = Devices("auto")
        found[name] = {part: devices.row(f"mps-{part}").__dict__ for part in looked}

    look("none", *parts)
    for name, fault, looked in (
        ("missing", ("missing", "threshold_backward"), ("step",)),
        ("wrong gradient", ("wrong", "mps_convolution_backward"), ("step",)),
        ("not a number", ("wrong", "_mps_convolution", float("nan")), ("step",)),
        ("optimizer", ("wrong", "_fused_adamw", float("nan")), ("step",)),
        ("no memory", ("out-of-memory", "linear"), ("step",)),
        ("failing", ("error", "linear"), ("step",)),
    ):
        simulated_mps.add_fault(*fault)
        look(name, *looked)
        simulated_mps.clear_faults()
    for name, fault, options, looked in (
        ("wrong strided", ("wrong", "mps_convolution_backward"), {"strided": True}, ("step", "strided")),
        ("wrong float16", ("wrong", "_mps_convolution"), {"dtype": "float16"}, ("step", "fp16")),
        ("refused", ("refuse", "_mps_convolution"), {"dtype": "bfloat16"}, ("step", "bf16")),
    ):
        simulated_mps.add_fault(*fault, **options)
        look(name, *looked)
        simulated_mps.clear_faults()
    torch.set_default_dtype(torch.float64)
    look("float64", "step")
    torch.set_default_dtype(torch.float32)
    simulated_mps.set_memory_limit(100 << 20)
    look("little memory", "memory")
    return found


@pytest.fixture(scope="module")
def found(mps):
    done = mps.run(rows_with_faults, env={environment.FALLBACK: "0"})
    assert done.returncode == 0, done.stderr
    return done.value


def test_without_a_fault_every_part_is_well(found):
    assert {part: row["status"] for part, row in found["none"].items()} == dict.fromkeys(found["none"], "ok")
    assert "samples/s" in found["none"]["step"]["found"]


@pytest.mark.parametrize(
    ("where", "status", "words", "fix"),
    [
        (("missing", "step"), "fail", "MPS lacks aten::threshold_backward", f"export {environment.FALLBACK}=1"),
        (("wrong gradient", "step"), "fail", "gradients differ from float64's by", "transit train --device cpu"),
        (("not a number", "step"), "fail", "gradients are NaN or infinite", "transit train --device cpu"),
        (("optimizer", "step"), "fail", "NaN or infinite weights", "transit train --device cpu"),
        (("no memory", "step"), "fail", "MPS backend out of memory", "transit probe-batch"),
        (("failing", "step"), "fail", "RuntimeError", "transit train --device cpu"),
        (("wrong strided", "strided"), "fail", "gradients differ from float64's by", "transit train --device cpu"),
        (("wrong float16", "fp16"), "warn", "gradients differ from float64's by", "transit train --precision fp32"),
        (("refused", "bf16"), "fail", "not supported at the MPS device", "transit train --device cpu"),
        (("float64", "step"), "fail", "float64", 'python -c "import torch; print(torch.get_default_dtype())"'),
        (("little memory", "memory"), "fail", "MPS backend out of memory", "transit probe-batch"),
    ],
)
def test_each_fault_is_caught_in_its_own_row_with_its_own_fix(found, where, status, words, fix):
    name, part = where
    row = found[name][part]
    assert (row["status"], row["fix"]) == (status, fix), row
    assert words in row["found"]
    for other, healthy in found[name].items():
        if other != part:
            assert healthy["status"] == "ok", healthy


def document(done):
    return {row["id"]: row for row in json.loads(done.stdout)["data"]["rows"]}


def test_a_device_that_aborts_costs_its_row_and_nothing_else(mps):
    done = mps.transit("doctor", "--json", "--only", "mps", faults=["abort:linear@bfloat16"])
    rows = document(done)
    assert {row_id: row["status"] for row_id, row in rows.items()} == {
        "mps": "ok", "mps-memory": "ok", "mps-step": "ok", "mps-strided": "ok", "mps-fp16": "ok", "mps-bf16": "fail",
    }  # fmt: skip
    assert "SIGABRT" in rows["mps-bf16"]["found"]


def test_a_device_that_dies_when_it_is_opened(mps):
    rows = document(mps.transit("doctor", "--json", "--only", "mps", faults=["abort:*"]))
    assert rows["mps"]["status"] == "fail"
    assert {row["status"] for row_id, row in rows.items() if row_id != "mps"} == {"skip"}


def test_an_operator_that_falls_back_is_something_to_know(mps):
    rows = document(mps.transit("doctor", "--json", "--only", "mps-step", faults=["missing:threshold_backward"]))
    assert rows["mps-step"]["status"] == "warn"
    assert rows["mps-step"]["fix"] == "transit fallback-test"
    assert "aten::threshold_backward" in rows["mps-step"]["found"]


TOO_LATE = """
import sys, torch
from transit_cli.app import main
sys.exit(main(["doctor", "--json", "--only", "fallback"]))
"""


def test_a_fallback_set_too_late_is_reported(mps):
    done = mps.run(TOO_LATE)
    row = document(done)["fallback"]
    assert row["status"] == "warn"
    assert row["found"] == f"{environment.FALLBACK} came too late"
    assert row["fix"] == f"export {environment.FALLBACK}=1"
