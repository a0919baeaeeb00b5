"""The light curves under a folder, by star."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transit_cli import console
from transit_cli.data.lightcurves import lightcurve
from transit_cli.results import TransitError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class LightCurveFiles:
    """The light curves of each star, and of each name."""

    by_star: dict[str, list[Path]]
    by_name: dict[str, Path]


def files_by_star(folder: Path) -> tuple[LightCurveFiles, dict[str, str]]:
    """The light curves under a folder; and the files of which not even the star could be read, with the reason."""
    if not folder.is_dir():
        raise TransitError(
            f"{folder} is not a folder",
            wanted="a folder with light curves (.fits, .fits.gz), also in folders of its own",
            fix="give the folder of your light curves, or get some: transit data fetch TARGETS OUT",
            code="lightcurves-missing",
        )
    endings = lightcurve.suffixes()
    found = sorted(file for file in folder.rglob("*") if file.name.lower().endswith(endings) and file.is_file())
    if not found:
        raise TransitError(
            f"{folder} holds no light curve",
            wanted=f"files ending in {', '.join(endings)}",
            fix="give the folder of your light curves, or get some: transit data fetch TARGETS OUT",
            code="lightcurves-missing",
        )
    by_star: dict[str, list[Path]] = defaultdict(list)
    unreadable = {}
    with console.progress("headers", len(found)) as bar:
        for file in found:
            star = lightcurve.star_of_name(file)
            try:
                star = star or lightcurve.star_of_file(file)
            except lightcurve.UnreadableError as reason:
                star = lightcurve.loose_star(file)
                unreadable[file.name] = str(reason)
            by_star[star].append(file)
            bar.update(advance=1)
    return LightCurveFiles(dict(by_star), {file.name: file for file in found}), unreadable
