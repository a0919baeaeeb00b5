"""Variables that torch reads: set in time, refused when they break it, reported when they came too late."""

import json
import os
import subprocess
import sys

import pytest

from transit_cli.device import environment
from transit_cli.device.environment import (
    FALLBACK,
    FAST_MATH,
    HIGH_WATERMARK,
    LOW_WATERMARK,
    METAL_VERSION,
    PREFER_METAL,
    variable_problems,
)
from transit_cli.results import TransitError


@pytest.mark.parametrize(
    "environ", [{}, {FALLBACK: "0"}, {FALLBACK: "1"}, {HIGH_WATERMARK: "1.5"}, {FAST_MATH: "0"}, {METAL_VERSION: "3.1"}]
)
def test_what_torch_takes_is_not_mentioned(environ):
    assert variable_problems(environ) == []


@pytest.mark.parametrize(
    ("environ", "variable", "fatal", "fix"),
    [
        ({FALLBACK: "true"}, FALLBACK, True, f"export {FALLBACK}=1"),
        ({FALLBACK: ""}, FALLBACK, True, f"export {FALLBACK}=1"),
        ({HIGH_WATERMARK: "0.0"}, HIGH_WATERMARK, False, f"unset {HIGH_WATERMARK}"),
        ({HIGH_WATERMARK: "none"}, HIGH_WATERMARK, True, f"unset {HIGH_WATERMARK}"),
        ({HIGH_WATERMARK: "nan"}, HIGH_WATERMARK, True, f"unset {HIGH_WATERMARK}"),
        ({HIGH_WATERMARK: "2.5"}, HIGH_WATERMARK, True, f"unset {HIGH_WATERMARK}"),
        ({HIGH_WATERMARK: "0.7"}, LOW_WATERMARK, True, f"export {LOW_WATERMARK}=0.7"),
        ({FAST_MATH: ""}, FAST_MATH, False, f"unset {FAST_MATH}"),
        ({PREFER_METAL: "1"}, PREFER_METAL, False, f"unset {PREFER_METAL}"),
        ({METAL_VERSION: "3.0"}, METAL_VERSION, False, f"unset {METAL_VERSION}"),
    ],
)
def test_each_trap_is_found_with_its_own_fix(environ, variable, fatal, fix):
    (finding,) = variable_problems(environ)
    assert (finding.variable, finding.fatal, finding.fix) == (variable, fatal, fix)


def test_a_value_that_breaks_torch_is_refused(monkeypatch):
    monkeypatch.setenv(FALLBACK, "true")
    with pytest.raises(TransitError, match=FALLBACK) as caught:
        environment.prepare()
    assert caught.value.fix == f"export {FALLBACK}=1"


def fresh(code, **environ):
    clean = {name: value for name, value in os.environ.items() if name not in environment.DEFAULTS}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean | environ, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


REPORT = """
import json, os, sys
{before}
from transit_cli.device import environment
environment.prepare()
found = [[f.variable, f.found] for f in environment.variable_problems(os.environ, environment.late())]
print(json.dumps([os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK"), found, "torch" in sys.modules]))
"""


def test_the_fallback_is_set_before_torch_and_torch_is_not_imported_for_it():
    assert fresh(REPORT.format(before="")) == ["1", [], False]


def test_a_choice_of_the_user_stays():
    assert fresh(REPORT.format(before=""), **{FALLBACK: "0"})[0] == "0"


def test_a_variable_that_comes_too_late_is_reported():
    value, found, _ = fresh(REPORT.format(before="import torch"))
    assert value is None
    assert found == [[FALLBACK, f"{FALLBACK} came too late"]]
