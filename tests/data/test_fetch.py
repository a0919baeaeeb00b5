"""`transit data fetch` against a server of our own that cuts, stalls and fails."""

import http.server
import threading
import time
from collections import Counter
from types import SimpleNamespace

import fits_maker as make
import numpy as np
import pytest

from transit_cli.data.download import fetch as module
from transit_cli.data.download.fetch import fetch
from transit_cli.data.settings import FetchSettings
from transit_cli.results import TransitError


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    time_ = make.long_cadence(30)
    flux = make.flux_with(time_, [], [])
    return make.kepler(tmp_path_factory.mktemp("archive") / "a.fits", 7, time_, flux).read_bytes()


@pytest.fixture
def server(content):
    """Serves the light curve under any name; the first folder of the path says what goes wrong, and how often."""
    asked = Counter()
    ranges = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            trouble, times, _ = self.path.strip("/").split("/")
            asked[self.path] += 1
            ranges.append(self.headers.get("Range"))
            now = asked[self.path] <= int(times)
            if now and trouble == "missing":
                self.send_error(404)
                return
            if now and trouble == "busy":
                self.send_error(503)
                return
            body = b"<html>Service Unavailable</html>" * 200 if now and trouble == "page" else content
            begin = 0
            if self.headers.get("Range") and trouble != "norange":
                begin = int(self.headers["Range"][6:-1])
                if begin >= len(body):
                    self.send_error(416)
                    return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body) - begin))
            self.end_headers()
            body = body[begin:]
            if now and trouble in {"cut", "norange"}:
                body = body[: len(body) // 2]
            if now and trouble == "stall":
                self.wfile.write(body[:1000])
                self.wfile.flush()
                time.sleep(3)
                return
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{httpd.server_port}", asked=asked, ranges=ranges)
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    from transit_cli.data.download import http

    monkeypatch.setattr(http, "sleep", lambda _: None)


def run(server, out, *paths, **changes):
    targets = tuple(f"{server.address}/{path}" for path in paths)
    return fetch(FetchSettings(targets=targets, out=out, **({"timeout": 1.0} | changes)))


@pytest.mark.parametrize("trouble", ["none/0", "cut/1", "cut/3", "norange/2", "stall/1", "busy/2", "page/1"])
def test_whatever_goes_wrong_for_a_while_the_file_is_whole_in_the_end(server, content, tmp_path, trouble):
    result = run(server, tmp_path, f"{trouble}/a.fits")
    assert (tmp_path / "a.fits").read_bytes() == content
    assert [row["status"] for row in result.data["files"]] == ["fetched"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.fits"]


def test_a_file_that_broke_off_is_resumed_not_begun_again(server, content, tmp_path):
    run(server, tmp_path, "cut/1/a.fits")
    assert server.ranges == [None, f"bytes={len(content) // 2}-"]


def test_the_next_run_resumes_what_the_last_one_left(server, content, tmp_path):
    with pytest.MonkeyPatch.context():
        failed = run(server, tmp_path, "cut/1/a.fits", tries=1)
    assert int(failed.exit_code) == 1
    assert "connection closed after" in failed.data["files"][0]["reason"]
    assert not (tmp_path / "a.fits").exists()
    run(server, tmp_path, "cut/1/a.fits", tries=1)
    assert (tmp_path / "a.fits").read_bytes() == content
    assert server.ranges[-1] == f"bytes={len(content) // 2}-"


def test_leftovers_of_another_file_are_thrown_away(server, content, tmp_path):
    (tmp_path / "a.fits.part").write_bytes(b"x" * (len(content) + 5))
    run(server, tmp_path, "none/0/a.fits")
    assert (tmp_path / "a.fits").read_bytes() == content
    (tmp_path / "b.fits.part").write_bytes(b"x" * 3000)
    run(server, tmp_path, "none/0/b.fits")
    assert (tmp_path / "b.fits").read_bytes() == content


def test_a_truncated_file_on_disk_is_found_and_fetched_again(server, content, tmp_path):
    (tmp_path / "a.fits").write_bytes(content[: len(content) // 2])
    (tmp_path / "b.fits").write_bytes(content)
    result = run(server, tmp_path, "none/0/a.fits", "none/0/b.fits")
    assert [row["status"] for row in result.data["files"]] == ["again", "present"]
    assert "breaks off" in result.warnings[0]
    assert (tmp_path / "a.fits").read_bytes() == content
    assert server.asked["/none/0/b.fits"] == 0


def test_what_cannot_be_had_costs_one_row(server, tmp_path):
    result = run(server, tmp_path, "missing/99/a.fits", "page/99/b.fits", "none/0/c.fits", tries=2)
    assert [row["status"] for row in result.data["files"]] == ["failed", "failed", "fetched"]
    assert "404" in result.data["files"][0]["reason"]
    assert "not a complete light curve" in result.data["files"][1]["reason"]
    assert server.asked["/missing/99/a.fits"] == 1  # what is not there is not asked for again
    assert int(result.exit_code) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["c.fits"]


def test_a_server_that_is_not_there_says_so(tmp_path):
    gone = SimpleNamespace(address="http://127.0.0.1:9")
    result = run(gone, tmp_path, "none/0/a.fits", tries=1)
    assert "refused" in result.data["files"][0]["reason"]


def test_targets_come_from_a_list_or_a_table(server, tmp_path):
    (tmp_path / "list.txt").write_text(f"# mine\n{server.address}/none/0/a.fits\n\n{server.address}/none/0/a.fits\n")
    (tmp_path / "table.csv").write_text(f"signal,star\n1,{server.address}/none/0/b.fits\n")
    given = (str(tmp_path / "list.txt"), str(tmp_path / "table.csv"))
    result = fetch(FetchSettings(targets=given, out=tmp_path / "out"))
    assert [row["file"] for row in result.data["files"]] == ["a.fits", "b.fits"]
    with pytest.raises(TransitError, match="does not exist"):
        fetch(FetchSettings(targets=("nothing.txt",), out=tmp_path / "out"))


def test_stars_are_looked_up_and_their_products_fetched(server, content, tmp_path, monkeypatch):
    """The archive's search is played by a stand-in; its answer has the columns that lightkurve's has."""
    asked = []

    def search_lightcurve(target, **wanted):
        asked.append((target, wanted))
        if target == "KIC 1":
            raise RuntimeError("no connection")
        names = [] if target == "KIC 2" else ["kplr000000007-1_llc.fits"]
        uris = np.array([f"none/0/{name}" for name in names])
        return SimpleNamespace(table={"dataURI": uris, "productFilename": np.array(names)})

    monkeypatch.setitem(
        __import__("sys").modules, "lightkurve", SimpleNamespace(search_lightcurve=search_lightcurve, __spec__=1)
    )
    monkeypatch.setattr(module, "ARCHIVE", server.address + "/")
    targets = ("KIC 1", "KIC 2", "KIC 7")
    result = fetch(FetchSettings(targets=targets, out=tmp_path, mission="Kepler", cadence="long"))
    assert [row["status"] for row in result.data["files"]] == ["failed", "failed", "fetched"]
    assert "no connection" in result.data["files"][0]["reason"]
    assert asked[2] == ("KIC 7", {"mission": "Kepler", "exptime": "long"})
    assert (tmp_path / "kplr000000007-1_llc.fits").read_bytes() == content


def test_without_lightkurve_a_star_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TransitError, match="lightkurve") as error:
        fetch(FetchSettings(targets=("KIC 7",), out=tmp_path))
    assert "transit-cli[fetch]" in error.value.fix
