"""`transit train --init`: which saved networks new ones begin from, and what of them is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from transit_cli.data.viewset import ViewSet
from transit_cli.model import pretrained, saved
from transit_cli.model.initialise import Initial, Inputs, initialise
from transit_cli.results import ExitCode, TransitError
from transit_cli.training.runs.environment import CONFIG, INIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

#: The value of --init that names the networks that come with transit.
PRETRAINED = "pretrained"


def open_initial(init: str, lengths: Mapping[str, int]) -> Initial | None:
    """The saved networks that `--init` names; None for "". Their weights are read, and nothing is executed.

    Args:
        init: "pretrained", a run's folder, a file, or "".
        lengths: the length of each view of the new networks.

    Raises:
        TransitError: there are none, or they cannot be read.
    """
    if not init:
        return None
    if init == PRETRAINED:
        name = pretrained.name_for(lengths, "omit --init, or give a RUN of views of these lengths")
        file = pretrained.files()[name]
        return Initial(f"the pretrained network ({name.replace('-', '/')})", file, *saved.read(file))
    path = Path(init).expanduser()
    file = path / saved.FILE if path.is_dir() else path
    if not file.is_file():
        unfinished = (path / CONFIG).is_file()
        raise TransitError(
            f"--init {init} {'is a run that has not finished' if unfinished else 'does not exist'}",
            wanted=f"{PRETRAINED}, the folder of a finished run, or a {saved.FILE}",
            fix=f"transit train --resume {path}" if unfinished else f"--init {PRETRAINED}",
            exit_code=ExitCode.USAGE,
            code="init-missing",
        )
    return Initial(init, file, *saved.read(file))


def what_fits(
    initial: Initial, inputs: Inputs, build: Callable[[], nn.Module], network: str, *, freeze: bool = False
) -> dict[str, str]:
    """What a new network takes from the saved ones, see `model.initialise`; torch's random state is left as it is.

    Raises:
        TransitError: nothing fits; or with `freeze`, not all but the output.
    """
    with torch.random.fork_rng(devices=[]):
        taken = initialise(build(), inputs, initial, 0)
    before = Inputs.of(initial.card)
    unknown = sorted({*inputs.views, *inputs.scalars} - {*before.views, *before.scalars})
    unknown += [name for name, source in taken.items() if source == "new" and name not in {"output", *inputs.views}]
    something = set(taken.values()) != {"new"}
    if freeze and unknown and something:
        raise TransitError(
            f"--freeze would not train {', '.join(unknown)}, which --init {initial.name} does not have",
            wanted=f"inputs of the saved networks: {', '.join([*before.views, *before.scalars])}",
            fix=f"--views {','.join(before.views)} --scalars={','.join(before.scalars)}, or omit --freeze",
            exit_code=ExitCode.USAGE,
            code="freeze-unfit",
        )
    if something:
        return taken
    raise TransitError(
        f"--init {initial.name} is a network {initial.card.network}, of which nothing fits {network}",
        wanted="saved networks of the same kind",
        fix=f"--network {initial.card.network}, or omit --init",
        exit_code=ExitCode.USAGE,
        code="init-unfit",
    )


def describe(initial: Initial, taken: Mapping[str, str]) -> str:
    """One line: what was taken, and what is new."""
    new = [name for name, source in taken.items() if source == "new"]
    used = [name if source in {name, "taken"} else f"{name} from {source}" for name, source in taken.items()]
    used = [text for text, name in zip(used, taken, strict=True) if name not in new]
    shown = ", ".join(used) if len(used) <= 8 else f"{len(used)} parameters"
    return f"{initial.name}: {shown}" + (f"; new: {', '.join(new[:8])}" if new else "")


def trained_stars(initial: Initial) -> np.ndarray:
    """The stars that a run's networks were trained on; empty if its view set is not known or not there any more."""
    from transit_cli import config
    from transit_cli.training.settings import TrainSettings

    run = initial.file.parent
    if not (run / CONFIG).is_file() or initial.file.name == INIT:  # the copy in a run that is resumed
        return np.empty(0, str)
    try:
        path = config.resolve(TrainSettings, {}, run / CONFIG).viewset
        if path is None:
            return np.empty(0, str)
        viewset = ViewSet.open(path)
    except TransitError:
        return np.empty(0, str)
    splits = ("train", "val") if initial.card.folds else ("train",)
    return np.unique(viewset.tces["star"][np.isin(viewset.splits, splits)])
