"""The contract of results and errors."""

import json
import math

import numpy as np
import pytest

from transit_cli.results import Document, ExitCode, TransitError, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (math.inf, None),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (ExitCode.NEGATIVE, 1),
        ({"a": (1, {2})}, {"a": [1, [2]]}),
        (True, True),
    ],
)
def test_plain_gives_json_types(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_error_names_its_class_unless_it_has_a_better_name():
    assert TransitError("no").document()["code"] == "bad-input"
    assert TransitError("no", code="viewset-missing").document()["code"] == "viewset-missing"


def test_document_status_follows_the_exit_code():
    for code, status in ((ExitCode.DONE, "done"), (ExitCode.NEGATIVE, "negative"), (ExitCode.MACHINE, "error")):
        assert Document("x", "1", code).as_json()["status"] == status
