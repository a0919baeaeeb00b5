"""The phases of an optimizer step, and hooks that mark where one ends and the next begins."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transit_cli.training.step import OptimizerStep

    #: Called with the phase that has ended and the one that begins.
    Mark = Callable[[str, str], None]

#: In the order in which they occur. `rest` is what lies between them: the schedule, clearing gradients, the loop.
PHASES = ("data", "transfer", "forward", "loss", "backward", "clip", "optimizer", "rest")
INFERENCE_PHASES = ("data", "transfer", "forward", "rest")


@contextmanager
def marking(step: OptimizerStep, mark: Mark) -> Iterator[None]:
    """While the block runs, `mark(ended, begins)` is called between each two phases inside the step."""
    at = {"network": False}
    loss, update = step.loss, step.update

    def before_forward(*_: Any) -> None:
        if at["network"]:  # a second micro-batch: what has run since the loss was the backward pass
            mark("backward", "forward")
        at["network"] = True

    def marked_loss(*arguments: Any) -> Any:
        value = loss(*arguments)
        mark("loss", "backward")
        return value

    def marked_update() -> None:
        mark("backward", "clip")
        at["network"] = False
        update()

    handles = [
        step.network.register_forward_pre_hook(before_forward),
        step.network.register_forward_hook(lambda *_: mark("forward", "loss")),
        step.optimizer.register_step_pre_hook(lambda *_: mark("clip", "optimizer")),
        step.optimizer.register_step_post_hook(lambda *_: mark("optimizer", "rest")),
    ]
    step.loss, step.update = marked_loss, marked_update  # type: ignore[method-assign]
    try:
        yield
    finally:
        del step.loss, step.update  # type: ignore[misc]
        for handle in handles:
            handle.remove()
