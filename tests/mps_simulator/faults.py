"""What can be made to go wrong on the simulated device, as a value and as text for a command line.

    Fault("wrong", "addcmul", value=0.5, strided=True)      wrong:addcmul:0.5@strided
    Fault("abort", "linear", call=3)                        abort:linear@call>=3

An operator is named without overload and without the underscore of its in-place form, because "add", "add_.Tensor" and
"add.out" arrive at a device as one operator. "*" is every operator.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["missing", "refuse", "wrong", "out-of-memory", "error", "abort", "hang", "slow"]

#: Convolution has other names on MPS than in a network's trace.
ALIASES = {
    "convolution": "_mps_convolution",
    "convolution_backward": "mps_convolution_backward",
    "conv1d": "_mps_convolution",
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: what happens:
            `missing`        the device has no such operator (the fallback variable decides what then happens);
            `refuse`         its kernel refuses these shapes: NotImplementedError, which the variable does not help with;
            `wrong`          its results are off by the relative error `value` (name a backward operator for gradients);
            `out-of-memory`  it finds no memory, whatever the limit is;
            `error`          it fails with a RuntimeError that is not about memory;
            `abort`          it ends the process with SIGABRT, as MPSGraph does on shapes it cannot take;
            `hang`           it never returns; only a signal that cannot be caught ends the process;
            `slow`           it takes `value` seconds longer.
        operator: its name, or "*"; "metal." and a kernel's name, see site/simulated_metal.py.
        value: the relative error, or seconds.
        strided: only with an argument that is not contiguous.
        dtype: only with an argument of this type (float32, float16, bfloat16).
        size: only with an argument that has a dimension of at least this size.
        call: only from this call on, counted from 1.
    """

    kind: Kind
    operator: str
    value: float = 0.5
    strided: bool = False
    dtype: str = ""
    size: int = 0
    call: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"a fault is one of {', '.join(get_args(Kind))}, not {self.kind!r}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault from `KIND:OPERATOR[:VALUE][@CONDITION[,CONDITION]]`."""
        what, _, conditions = text.partition("@")
        kind, operator, *value = what.split(":")
        options: dict[str, Any] = {"value": float(value[0])} if value else {}
        for condition in filter(None, conditions.split(",")):
            if condition == "strided":
                options["strided"] = True
            elif condition in {"float32", "float16", "bfloat16"}:
                options["dtype"] = condition
            elif match := re.fullmatch(r"(size|call)>=(\d+)", condition):
                options[match[1]] = int(match[2])
            else:
                raise ValueError(f"a condition is strided, a float type, size>=N or call>=N, not {condition!r}")
        return cls(kind, operator, **options)

    def arguments(self) -> dict[str, Any]:
        """What `simulated_mps.add_fault` takes."""
        return asdict(self) | {"operator": ALIASES.get(self.operator, self.operator)}
