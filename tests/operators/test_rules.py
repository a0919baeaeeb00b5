"""Each rule fires at the shapes and versions that its issue names, and not beside them."""

import pytest

from transit_cli.operators.prediction import rules
from transit_cli.operators.trace import Argument, Call


def call(operator, *shapes, contiguous=True, phase="forward", options="", dtype="float32"):
    return Call(operator, phase, tuple(Argument(shape, dtype, contiguous) for shape in shapes), options)


LONG = (64, 1, 2001)
CASES = [
    # a call, versions in which it is reported with which severity, and a call beside it that never is
    (call("_mps_convolution", LONG, (8, 1, 256)), {(2, 13): "wrong", (2, 14): "doubtful", (2, 15): None}, call("_mps_convolution", LONG, (8, 1, 255))),
    (call("_mps_convolution", (4, 1, 300, 300), (8, 1, 256, 3)), {(2, 15): "doubtful"}, call("_mps_convolution", (4, 1, 300, 300), (8, 1, 255, 3))),
    (call("_mps_convolution", LONG, (8, 1, 5), contiguous=False), {(2, 10): "doubtful"}, call("_mps_convolution", (1, 1, 9), (8, 1, 5), contiguous=False)),
    (call("bmm", (1 << 17, 256, 64), (1 << 17, 64, 256)), {(2, 15): "wrong"}, call("bmm", (1 << 16, 256, 64), (1 << 16, 64, 256))),
    (call("bmm", (4, 16, 32_767), (4, 32_767, 16)), {(2, 15): "doubtful"}, call("bmm", (4, 16, 32_766), (4, 32_766, 16))),
    (call("mm", (16, 32_767), (32_767, 16)), {(2, 13): "doubtful", (2, 14): None}, call("mm", (16, 32_766), (32_766, 16))),
    (call("addmm", (16,), (16, 40_000), (40_000, 16)), {(2, 13): "doubtful", (2, 14): None}, call("addmm", (40_000,), (16, 4), (4, 40_000))),
    (call("linear_backward", (40_000, 8), (40_000, 4), (4, 8)), {(2, 13): "doubtful", (2, 14): None}, call("linear_backward", (400, 8), (400, 4), (4, 8))),
    (call("reflection_pad1d_backward", (2, 65_539), (2, 65_537)), {(2, 14): "wrong", (2, 15): None}, call("reflection_pad1d_backward", (2, 131_074), (2, 131_072))),
    (call("replication_pad1d_backward", (65_536, 2, 6), (65_536, 2, 4)), {(2, 14): "wrong", (2, 15): None}, call("replication_pad1d_backward", (2, 65_738, 6), (2, 65_736, 4))),
    (call("mps_convolution_backward", (8, 8, 32, 32), (8, 8, 32, 32), (8, 8, 3, 3), contiguous=False), {(2, 14): "slow", (2, 15): None}, call("mps_convolution_backward", (8, 8, 32), (8, 8, 32), (8, 8, 3), contiguous=False)),
    (call("mps_convolution_backward", (65_536, 8, 32), (65_536, 8, 32), (8, 8, 3)), {(2, 15): "wrong"}, call("mps_convolution_backward", (65_535, 8, 32), (65_535, 8, 32), (8, 8, 3))),
    (call("adaptive_max_pool2d", (2, 4, 1, 10), options="1, 3"), {(2, 13): "wrong", (2, 14): None}, call("adaptive_max_pool2d", (2, 4, 1, 9), options="1, 3")),
]  # fmt: skip


@pytest.mark.parametrize(("reported", "versions", "beside"), CASES)
def test_a_rule_at_its_limit(reported, versions, beside):
    for version, severity in versions.items():
        found = rules.check([reported], version)
        assert [one.severity for one in found] == ([severity] if severity else []), (version, found)
        assert all("pytorch" in one.source and one.fix for one in found)
        assert rules.check([beside], version) == []


def test_only_wrong_and_refused_make_a_prediction_negative():
    from transit_cli.operators.prediction.coverage import BAD, verdict

    findings = [
        rules.Incompatibility("conv1d", severity, f"found {severity}", f"change {severity}", "pytorch issue 1")
        for severity in ("wrong", "doubtful", "slow")
    ]
    assert set(BAD) == {"refused", "wrong"}
    lines = verdict([], findings).splitlines()
    assert lines == [
        "change your network: conv1d: change wrong",
        "watch conv1d: found doubtful",
        "watch conv1d: found slow",
    ]
