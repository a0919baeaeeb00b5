"""Data by URL: what a server holds is read and written as local folders are, and what cannot be is said."""

import importlib.util
from pathlib import Path

import fsspec
import numpy as np
import pytest

import tests.data.test_prepare as prepared
from transit_cli.data.inspection import info
from transit_cli.data.prepare import prepare
from transit_cli.data.settings import PrepareSettings
from transit_cli.data.viewset import ViewSet
from transit_cli.results import TransitError
from transit_cli.utils import remote

survey = prepared.survey


@pytest.fixture
def server(survey, monkeypatch):
    """A folder on a server that holds the survey."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(survey / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(str(survey / "curves"), "/bucket/curves", recursive=True)
    memory.put_file(str(survey / "tces.csv"), "/bucket/tces.csv")
    yield Path("memory://bucket")
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("path", "url"),
    [("s3://a/b c", "s3://a/b c"), ("https://h:8/x", "https://h:8/x"), ("a/b", ""), ("/s3:/x", ""), ("C:/x", "")],
)
def test_a_url_stays_one_as_a_path(path, url):
    assert remote.url(Path(path)) == url


def test_prepare_from_a_server_to_a_server_gives_the_local_arrays_and_tables(survey, server):
    prepared.run(survey, "local", shards=2)
    given = {"catalog": server / "tces.csv", "light_curves": server / "curves", "bins": "201/61", "workers": 1}
    result = prepare(PrepareSettings(out=server / "sharded", shards=2, **given))
    assert result.data["tces"] == prepared.STARS + 1
    prepare(PrepareSettings(out=server / "single", **given))
    local = ViewSet.open(survey / "local")
    for name in ("sharded", "single"):
        views = ViewSet.open(server / name).checked()
        assert views.tces["star"].tolist() == local.tces["star"].tolist()
        for view, values in local.views.items():
            np.testing.assert_array_equal(np.asarray(views.views[view]), values[:])
        assert info(views, check=True).exit_code == 0
    assert prepare(PrepareSettings(out=server / "sharded", shards=2, **given)).data["tces"] == prepared.STARS + 1
    with pytest.raises(TransitError, match="exists already"):
        prepare(PrepareSettings(out=server / "single", **given))


def test_what_cannot_be_reached_is_said(server):
    with pytest.raises(TransitError, match="memory://bucket/none"):
        ViewSet.open(server / "none")
    with pytest.raises(TransitError, match="memory://bucket/none"):
        remote.local(server / "none/file.fits")
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(TransitError, match="s3://") as error:
            ViewSet.open(Path("s3://bucket/set"))
        assert error.value.fix == "pip install s3fs"
