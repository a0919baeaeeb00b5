"""Mutated light curves: whatever a file holds, it is read right or refused; never a traceback, never another flux."""

import contextlib

import numpy as np
import product_files
import pytest

from transit_cli.data.lightcurves.lightcurve import UnreadableError
from transit_cli.data.lightcurves.readers import read, star_of_file


def mutate(content, rng):
    """A FITS file with a few bytes, cards or blocks changed."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(8)
        at = int(rng.integers(0, len(data)))
        card = 80 * int(rng.integers(0, 120))
        if kind == 0:
            data[at : at + 8] = rng.bytes(8)
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            values = ["'X'", "NaN", "-1", "999999999999", "1E400", "T", "", "'1.5D3'", "2457000", "0"]
            data[card + 10 : card + 30] = str(rng.choice(values)).rjust(20).encode()
        elif kind == 3:
            data[card : card + 80] = b" " * 80
        elif kind == 4:
            data[card : card + 80] = rng.bytes(80)
        elif kind == 5:
            other = 80 * int(rng.integers(0, 120))
            data[card : card + 80], data[other : other + 80] = data[other : other + 80], data[card : card + 80]
        elif kind == 6:
            data[at:at] = rng.bytes(int(rng.integers(1, 3000)))
        else:
            data[-5760:] = np.frombuffer(rng.bytes(5760), np.uint8).tobytes()[: len(data[-5760:])]
        data = data or bytearray(b" ")
    return bytes(data)


def mutate_table(text, rng):
    """A CSV file with cells, lines or characters changed."""
    lines = text.splitlines()
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(lines)))
        cells = lines[at].split(",")
        kind = rng.integers(6)
        if kind == 0:
            values = ["", "nan", "inf", "-9999", "1e400", "x", "1,5", '"', "99999999999999999999", "\x00"]
            cells[int(rng.integers(len(cells)))] = str(rng.choice(values))
            lines[at] = ",".join(cells)
        elif kind == 1:
            lines[at] = lines[at] + ",1"
        elif kind == 2:
            lines[0] = str(rng.choice(["time,time,flux", "flux,time", "", "time;flux", "a,b,c", "# time,flux,quality"]))
        elif kind == 3:
            del lines[at]
            lines = lines or [""]
        elif kind == 4:
            lines = lines[: max(at, 1)]
        else:
            lines[at] = "".join(map(chr, rng.integers(1, 0x2FF, 20)))
    return "\n".join(lines)


def check(file):
    """A light curve that keeps what `LightCurve` promises, or a reason."""
    try:
        curve = read(file)
    except UnreadableError:
        return None
    finally:
        with contextlib.suppress(UnreadableError):
            star_of_file(file)
    assert len(curve.time) == len(curve.flux) <= curve.finite <= curve.cadences
    assert np.isfinite(curve.flux).all()
    assert np.isfinite(curve.time).all()
    assert (np.diff(curve.time) > 0).all()
    repeated = any("repeat a time" in note for note in curve.notes)
    assert not len(curve.flux) or repeated or np.median(curve.flux) == pytest.approx(1, abs=0.05)
    return curve


def fuzz(folder, count, seed):
    originals = [product_files.write(folder, layout).read_bytes() for layout in product_files.LAYOUTS]
    time, flux, _, flagged = product_files.curve(1327.3, 1325.3)
    table = "time_btjd,flux,quality\n" + "\n".join(
        f"{t:.6f},{f:.6f},{8 * q}" for t, f, q in zip(time[:200], flux[:200], flagged[:200], strict=True)
    )
    read_right = 0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        if number % 4 == 3:
            file = folder / "mutated.csv"
            file.write_text(mutate_table(table, rng), encoding="utf-8")
        else:
            file = folder / "mutated.fits"
            file.write_bytes(mutate(originals[number % len(originals)], rng))
        read_right += check(file) is not None
    return read_right


def test_mutated_files_give_a_light_curve_or_a_reason(tmp_path):
    assert fuzz(tmp_path, 100, 1) > 10  # some mutations are harmless


@pytest.mark.torture
def test_many_mutated_files_give_a_light_curve_or_a_reason(tmp_path):
    assert fuzz(tmp_path, 2000, 2) > 200
