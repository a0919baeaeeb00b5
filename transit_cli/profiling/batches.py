"""The workload of a profile: the training step on a view set, on synthetic samples, or on the user's own loader."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from transit_cli.data.viewset import ViewSet
from transit_cli.device.select import select
from transit_cli.options import parse_bins
from transit_cli.results import TransitError
from transit_cli.training import workload
from transit_cli.training.batch import Batch
from transit_cli.training.loading import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transit_cli.profiling.settings import ProfileSettings
    from transit_cli.training.workload import Workload


def build(settings: ProfileSettings) -> Workload:
    """Build the workload that the settings describe.

    Raises:
        TransitError: view set, loader, network or device cannot be used.
    """
    device = select(settings.device)
    viewset = ViewSet.open(settings.viewset) if settings.viewset else None
    if viewset:
        views = samples.view_lengths(viewset, [name for name in ("global", "local") if name in viewset.lengths])
    else:
        views = parse_bins(settings.bins)
    chosen: dict[str, Any] = {}
    if settings.loader:
        chosen = {"groups": _loaded(settings, views), "source": settings.loader}
    elif viewset:
        groups = workload.repeat(_read(viewset, views), settings.batch_size, settings.accumulate, device)
        chosen = {"groups": groups, "source": f"{settings.viewset}, on the device"}
    return workload.build(settings, settings.network, views, device, inference=settings.inference, **chosen)


def _read(viewset: ViewSet, views: Mapping[str, int]) -> samples.InMemorySamples:
    rows = samples.labelled_rows(viewset, ("train",))
    return samples.read_samples(viewset, rows, list(views), None, np.zeros(len(rows), dtype=np.float32))


def _loaded(settings: ProfileSettings, views: Mapping[str, int]) -> Iterator[list[Batch]]:
    """Batches of the user's own loader, which is called again when it ends."""
    factory = _factory(str(settings.loader))
    while True:
        count = 0
        group: list[Batch] = []
        for item in factory(views, 0, settings.batch_size):
            group.append(_validated(item, str(settings.loader)))
            count += 1
            if len(group) == settings.accumulate:
                yield group
                group = []
        if count < settings.accumulate:
            raise TransitError(
                f"{settings.loader} yields {count} batches",
                wanted=f"at least {settings.accumulate}, one optimizer step's",
                fix="let it yield more batches",
                code="loader-empty",
            )


def _validated(item: Any, name: str) -> Batch:
    inputs, targets = item if isinstance(item, tuple | list) and len(item) == 2 else (None, None)
    if not isinstance(inputs, dict) or not isinstance(targets, Tensor):
        raise TransitError(
            f"{name} yields {type(item).__name__}",
            wanted='pairs ({"global": [B, L], "local": [B, L]}, targets [B]) of tensors',
            fix=f"correct {name.rpartition(':')[0]}",
            code="loader-unusable",
        )
    return Batch(inputs, targets)


def _factory(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location("transit_user_loader", path)
    problem: object = f"there is no file {file!r}"
    if path.is_file() and spec and spec.loader:
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            return getattr(module, attribute)
        except Exception as error:  # noqa: BLE001 - the user's file may fail in any way
            problem = error
    raise TransitError(
        f"the loader {name} cannot be used: {problem}",
        wanted="my_data.py:batches, a function of (views, scalars, batch_size) that yields (inputs, targets)",
        fix=f"correct {file or name}",
        code="loader-unusable",
    )
