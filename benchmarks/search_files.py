"""The part of benchmarks/search.py that begins with files: reading, detrending, and the whole command."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from search_cases import transits

if TYPE_CHECKING:
    import argparse

    import torch

    from transit_cli.search.cells import Curve


def _write_files(folder: Path, count: int) -> None:
    """FITS files with the columns of TESS's two-minute light curves, 27 days; a planet in one of ten."""
    from astropy.io import fits

    rng = np.random.default_rng(2)
    when = 1400 + np.arange(27 * 720) / 720
    kept = np.abs(when - 1413.5) > 0.5
    for number in range(count):
        flux = 1 + 1e-3 * rng.standard_normal(len(when)) + 2e-3 * np.sin(when / rng.uniform(1, 5))
        if number % 10 == 0:
            flux -= transits(rng, when)
        flux = np.where(kept, 1e4 * flux, np.nan).astype(np.float32)
        columns = [
            fits.Column("TIME", "D", array=when),
            fits.Column("QUALITY", "J", array=np.zeros(len(when), np.int32)),
        ]
        columns += [fits.Column(name, "E", array=flux) for name in ("SAP_FLUX", "PDCSAP_FLUX")]
        columns += [fits.Column(f"{name}_ERR", "E", array=flux * 1e-3) for name in ("SAP_FLUX", "PDCSAP_FLUX")]
        table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
        table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0, "TIMEUNIT": "d", "EXPOSURE": 20.0})
        head = fits.PrimaryHDU()
        star = 100_000_000 + number
        head.header.update({"TELESCOP": "TESS", "OBJECT": f"TIC {star}", "TICID": star, "SECTOR": 1})
        name = f"tess2018206045859-s0001-{star:016}-0120-s_lc.fits"
        fits.HDUList([head, table]).writeto(folder / name, overwrite=True)


def from_files(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    from transit_cli.data.lightcurves.file_index import FileIndex
    from transit_cli.parallel import each
    from transit_cli.search import search_run, source
    from transit_cli.search.settings import SearchSettings

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "curves"
        folder.mkdir()
        os.environ["XDG_CACHE_HOME"] = temporary
        _write_files(folder, options.files)
        out = Path(temporary) / "found.csv"
        settings = SearchSettings(light_curves=folder, out=out, device=options.device, workers=options.workers)
        begin = time.perf_counter()
        index = FileIndex.of(folder)
        headers = (time.perf_counter() - begin) / options.files
        tasks = source.star_tasks(index, settings)
        few = tasks[:16]
        source.read_star(few[0])
        original, spent = source.detrend, [0.0]

        def timed(*arguments: Any) -> Curve:
            begin = time.process_time()
            curve = original(*arguments)
            spent[0] += time.process_time() - begin
            return curve

        source.detrend = timed  # type: ignore[assignment]
        begin = time.process_time()
        for task in few:
            source.read_star(task)
        both = (time.process_time() - begin) / len(few)
        source.detrend = original
        detrend = spent[0] / len(few)
        begin = time.perf_counter()
        times = [time.perf_counter() for _ in each(source.read_star, tasks, options.workers, busy=True)]
        wall = time.perf_counter() - begin
        late = times[len(times) // 3 :]  # without the start of the workers
        rate = (len(late) - 1) / (late[-1] - late[0])
        begin = time.perf_counter()
        done = search_run.search(settings)
        whole = time.perf_counter() - begin
    figures = {
        "files": options.files,
        "headers_ms": 1e3 * headers,
        "read_ms_of_a_core": 1e3 * (both - detrend),
        "detrend_ms_of_a_core": 1e3 * detrend,
        "read_and_detrended_per_second": rate,
        "read_and_detrended_seconds": wall,
        "command_seconds": whole,
        "command_per_second": options.files / whole,
        "signals": done.data["signals"],
    }
    print(f"\n{options.files} files, {device.type}, {os.cpu_count()} cores: {json.dumps(figures, indent=1)}")
    return figures
