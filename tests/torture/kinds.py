"""An intact file of every kind that transit reads, and what reads it."""

from __future__ import annotations

import gzip
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np

from tests.torture.mutation import Kind
from transit_cli import config
from transit_cli.data.catalogs import array_files, catalog
from transit_cli.data.inspection import info
from transit_cli.data.lightcurves import readers
from transit_cli.data.viewset import ViewSet
from transit_cli.model import saved
from transit_cli.operators.op_database import matrix
from transit_cli.parsing import schema
from transit_cli.training.runs import checkpoint, run
from transit_cli.training.runs.environment import Environment
from transit_cli.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def kinds(folder: Path) -> dict[str, Kind]:
    """The kinds by name; their files are made in `folder`, which has the inputs of `inputs.make`."""
    return _of_viewsets(folder) | _of_runs(folder) | _of_arrays(folder) | _of_tables(folder) | _of_curves(folder)


def _of_file(file: Path) -> Callable[[object], bytes]:
    return lambda _: file.read_bytes()


def _of_networks(found: tuple) -> list[bytes]:
    networks, card = found
    weights = [value.numpy().tobytes() for network in networks for _, value in sorted(network.state_dict().items())]
    return [repr(card).encode(), *weights]


def _of_sources(found: list) -> list[tuple[str, bytes]]:
    arrays = {name: array for source in found for name, array in source.arrays.items()}
    return [(name, array.tobytes()) for name, array in sorted(arrays.items())]


def _of_viewsets(folder: Path) -> dict[str, Kind]:
    shutil.copytree(folder / "set", folder / "mutated", dirs_exist_ok=True)
    files = sorted(file for file in (folder / "mutated").iterdir() if file.name != "tces.csv")
    read = lambda: info(ViewSet.open(folder / "mutated"), check=True)  # noqa: E731
    found = {file.name: Kind(file, read, _of_file(file) if file.suffix == ".npy" else None) for file in files}
    return found | {"tces.csv": Kind(folder / "mutated" / "tces.csv", read)}


def _of_runs(folder: Path) -> dict[str, Kind]:
    shutil.copytree(folder / "run", folder / "changed", dirs_exist_ok=True)
    rows = {"add": {"forward": "ok", "gradient": "ok", "samples": 1, "error": 0.0, "message": "", "fell_back": False}}
    (folder / "matrix.json").write_text(json.dumps({"key": {"torch": "2"}, "operators": rows}))
    (folder / "settings.yaml").write_text(config.to_yaml(TrainSettings(), "train"))
    source = schema.Source("environment.json", "", "", "")
    own = folder / "changed"
    point = next((own / "checkpoints").rglob("*.pt"))

    def read_checkpoint() -> object:
        state = checkpoint.load(point)
        if state is None:
            raise schema.Source(str(point), "", "", "").error("is corrupt")
        return state

    return {
        "environment.json": Kind(
            own / "environment.json", lambda: schema.read(own / "environment.json", Environment, source)
        ),
        "metrics.jsonl": Kind(own / "metrics.jsonl", lambda: run.Run(own).history()),
        "config.yaml": Kind(own / "config.yaml", lambda: config.resolve(TrainSettings, {}, own / "config.yaml")),
        "model.safetensors": Kind(own / saved.FILE, lambda: saved.load(own / saved.FILE), _of_networks),
        "checkpoint": Kind(point, read_checkpoint, _of_file(point)),
        "matrix.json": Kind(folder / "matrix.json", lambda: matrix._read(folder / "matrix.json")),
        "yaml": Kind(folder / "settings.yaml", lambda: config.resolve(TrainSettings, {}, folder / "settings.yaml")),
    }


def _of_arrays(folder: Path) -> dict[str, Kind]:
    import h5py

    from tests.data.tfrecord_writer import tfrecord

    views = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    arrays = {"global": np.repeat(views, 3, axis=1), "local": views, "kepid": np.arange(8), "av_pred": views[:, 0]}
    (folder / "npy").mkdir(exist_ok=True)
    np.save(folder / "npy" / "global.npy", arrays["global"])
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)
    with h5py.File(folder / "views.h5", "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip" if name == "global" else None)
        file["label"] = ["PC", "EB"] * 4
    rows = [{name: values[row].ravel().tolist() for name, values in arrays.items()} for row in range(8)]
    (folder / "views.tfrecord").write_bytes(tfrecord(rows))
    (folder / "views.tfrecord.gz").write_bytes(gzip.compress((folder / "views.tfrecord").read_bytes()))
    checked = {"stored.npz", "deflated.npz", "views.tfrecord"}
    names = ("npy/global.npy", "stored.npz", "deflated.npz", "views.h5", "views.tfrecord", "views.tfrecord.gz")

    def read(name: str) -> object:
        return list(array_files.sources(array_files.files_in([folder / name])))

    return {
        name: Kind(folder / name, lambda name=name: read(name), _of_sources if name in checked else None)
        for name in names
    }


def _of_tables(folder: Path) -> dict[str, Kind]:
    from astropy.table import Table

    table = Table.read(folder / "catalog.csv", format="ascii.csv")
    table["period_days"].unit = "d"
    table.write(folder / "catalog.ecsv", format="ascii.ecsv", overwrite=True)
    table.write(folder / "catalog.fits", overwrite=True)
    table.write(folder / "catalog.xml", format="votable", overwrite=True)
    import pyarrow.parquet

    columns = {name: np.asarray(table[name]).tolist() for name in table.colnames}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "catalog.parquet")
    shutil.copy(folder / "catalog.csv", folder / "catalog.txt")
    (folder / "catalog.csv.gz").write_bytes(gzip.compress((folder / "catalog.csv").read_bytes()))
    names = ("catalog.txt", "catalog.csv.gz", "catalog.ecsv", "catalog.fits", "catalog.xml", "catalog.parquet")
    return {name: Kind(folder / name, lambda name=name: catalog.read(folder / name, "")) for name in names}


def _of_curves(folder: Path) -> dict[str, Kind]:
    import pyarrow.parquet
    from astropy.table import Table

    own = folder / "light_curves"
    own.mkdir(exist_ok=True)
    time = 1300 + np.arange(0, 6, 1 / 48)
    flux = (1 + 1e-3 * np.random.default_rng(0).normal(size=len(time))).astype(np.float32)
    table = Table({"TIME": time, "PDCSAP_FLUX": flux, "QUALITY": np.zeros(len(time), np.int32)})
    table.meta |= {"TICID": 5, "MISSION": "TESS", "TELESCOP": "TESS", "BJDREFI": 2457000, "BJDREFF": 0.0}
    table.write(own / "plain.fits", overwrite=True)
    from astropy.io import fits

    with fits.open(own / "plain.fits") as tables:
        tables.writeto(own / "summed.fits", checksum=True, overwrite=True)
    (own / "packed.fits.gz").write_bytes(gzip.compress((own / "plain.fits").read_bytes()))
    short = table[:60]
    short.write(own / "curve.ecsv", format="ascii.ecsv", overwrite=True)
    (own / "curve.csv").write_text(
        "time_btjd,flux\n" + "".join(f"{t:.5f},{f:.6f}\n" for t, f in zip(time, flux, strict=True))
    )
    pyarrow.parquet.write_table(pyarrow.table({"time_btjd": time, "flux": flux}), own / "curve.parquet")
    names = ("plain.fits", "summed.fits", "packed.fits.gz", "curve.ecsv", "curve.csv", "curve.parquet")
    return {f"curve {name}": Kind(own / name, lambda name=name: readers.read(own / name)) for name in names}
