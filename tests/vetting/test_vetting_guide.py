"""docs/vetting.md says what the code does: its limits, its files, its columns and its commands."""

import re
from pathlib import Path

import pytest

from transit_cli import config
from transit_cli.data.starlight import ephemeris_check
from transit_cli.vetting.candidate_tests import (
    aperture_depth,
    centroid,
    coverage,
    depth_consistency,
    model_shift,
    odd_even,
    period_alias,
    shape,
    sine_wave,
    stellar,
    transit_fit,
)
from transit_cli.vetting.candidates import candidate_table, disposition, vet_run
from transit_cli.vetting.settings import VetSettings

GUIDE = (Path(__file__).parents[2] / "docs" / "vetting.md").read_text()
#: A row of the table of tests, and the limits that it must name.
LIMITS = {
    "odd and even depth": (odd_even.INFO.threshold, 100 * odd_even.SMALLEST),
    "secondary eclipse": (100 * model_shift.PLANET_SHARE, model_shift.HALF_PERIOD),
    "transit shape": (transit_fit.GRAZING, 2, 100 * shape.DEEPEST),
    "equal depths": (100 * depth_consistency.INFO.threshold, depth_consistency.MEAN_TO_MEDIAN),
    "uniqueness": (model_shift.TOLERANCE,),
    "sine wave": (sine_wave.SIGNIFICANT,),
    "centroid offset": (centroid.INFO.threshold, centroid.SMALLEST),
    "depth by aperture": (aperture_depth.INFO.threshold, 100 * aperture_depth.SMALLEST),
    "period aliases": (),
    "gaps near transits": (),
    "sectors or quarters": (coverage.SEGMENTS.threshold,),
    "duration for the star": (stellar.LOWEST_DENSITY,),
    "companion radius": (stellar.RADIUS.threshold,),
}


@pytest.mark.parametrize("name", LIMITS)
def test_every_test_stands_in_the_guide_with_its_limits(name):
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| {name}"))
    numbers = set(re.findall(r"\d+(?:\.\d+)?", row))
    assert {f"{limit:g}" for limit in LIMITS[name]} <= numbers


def test_the_guide_names_all_tests_and_papers():
    assert len(LIMITS) == len(candidate_table.TESTS)
    assert shape.GAIN == 2**2
    infos = [module.INFO for module in (odd_even, shape, depth_consistency, sine_wave, centroid, aperture_depth)]
    infos += [period_alias.INFO, model_shift.UNIQUE, model_shift.SECONDARY, coverage.GAPS, coverage.SEGMENTS]
    infos += [stellar.DURATION, stellar.ANY_STAR, stellar.RADIUS]
    assert {info.name for info in infos} == set(candidate_table.TESTS)
    for info in infos:
        author = info.paper.split()[0]
        assert author in GUIDE.replace("Mallén", "Mallen")
    assert f"below {disposition.DETECTION}" in GUIDE
    assert f"below {ephemeris_check.LEAST:g}" in GUIDE


def test_the_guide_names_the_files_and_options_that_there_are():
    for name in (vet_run.PAGE, vet_run.CANDIDATES, vet_run.SIGNALS, vet_run.FOUND):
        assert f"`{name}`" in GUIDE
    options = {f"--{setting.name.replace('_', '-')}" for setting in config.settings_of(VetSettings)} | {"--json"}
    assert set(re.findall(r"`(--[a-z-]+)", GUIDE)) <= options
    columns = candidate_table.columns()
    assert {"pl_orbper", "pl_orbpererr1"} <= set(columns)
    for line in re.findall(r"^    transit vet (.*?)(?: +#.*)?$", GUIDE, re.MULTILINE):
        assert len(line.split()) in {2, 3}
