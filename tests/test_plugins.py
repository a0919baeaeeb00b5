"""Plugins that work, and plugins broken in every way: none may hurt the rest."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOOD = '"""Say hello{}."""\nimport typer\napp = typer.Typer()\n\n@app.command()\ndef hello(name: str = "you"):\n    print("hello", name)\n'

#: Name of the plugin -> its module's source. Each becomes a distribution of its own, `transit-NAME`.
MODULES = {
    "good": GOOD.format(" [in brackets]"),
    "torch": GOOD.format(" slowly").replace("import typer", "import typer, torch", 1),
    "importerror": "import no_such_module\n",
    "syntaxerror": '"""Broken."""\ndef (:\n',
    "wrongtype": '"""Not an app."""\napp = 42\n',
    "noattribute": '"""Holds nothing."""\n',
    "duplicate": GOOD.format(""),
    "sysexit": "import sys\nsys.exit(0)\n",
}
BROKEN = {
    "importerror": "No module named 'no_such_module'",
    "syntaxerror": "SyntaxError",
    "wrongtype": "int, not typer.Typer",
    "noattribute": "AttributeError",
    "sysexit": "SystemExit",
}


def install(target, *folders):
    """Install distributions into a folder, from their sources, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, *folders], check=True, timeout=300)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder of installed plugins; on PYTHONPATH it is an environment of its own beside transit's."""
    target = tmp_path_factory.mktemp("site")
    for name, text in MODULES.items():
        (target / f"transit_{name}.py").write_text(text)
        info = target / f"transit_{name}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: transit-{name}\nVersion: 1.2.3\n")
        entry = "plugins" if name == "duplicate" else name
        (info / "entry_points.txt").write_text(f"[transit.commands]\n{entry} = transit_{name}:app\n")
    return {"PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}


def test_all_are_listed_and_none_is_imported(transit, scratch):
    done = transit("--help", env=scratch | {"PYTHONPROFILEIMPORTTIME": "1", "COLUMNS": "120"})
    assert done.returncode == 0
    for name in MODULES.keys() - {"duplicate"}:
        assert re.search(rf"\b{name}\b", done.stdout)
        assert f"transit_{name}" not in done.stderr
    assert "| torch" not in done.stderr
    assert "Say hello [in brackets]." in done.stdout


def test_a_good_one_runs(transit, scratch):
    assert transit("good", "--name", "Kepler", env=scratch).stdout == "hello Kepler\n"
    assert "--name" in transit("good", "--help", env=scratch).stdout
    assert "completion" not in transit("good", "--help", env=scratch).stdout


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_one_says_why_and_how_to_remove_it(transit, scratch, name):
    for arguments in ([name], [name, "--help"], [name, "--json"]):
        done = transit(*arguments, env=scratch)
        assert done.returncode == 3
        for word in (BROKEN[name], f"transit-{name} 1.2.3", f"transit_{name}:app", f"pip uninstall transit-{name}"):
            assert word in done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["errors"][0]["code"] == "plugin-broken"


def test_debug_shows_the_traceback(transit, scratch):
    done = transit("importerror", env=scratch | {"TRANSIT_DEBUG": "1"})
    assert "Traceback" in done.stderr
    assert "no_such_module" in done.stderr


@pytest.mark.parametrize("name", [*BROKEN, ""])
def test_tab_never_shows_an_error(transit, scratch, name):
    words = f"transit {name} --" if name else "transit "
    completion = {"_TRANSIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2" if name else "1"}
    done = transit(env=scratch | completion)
    assert (done.returncode, done.stderr) == (0, "")
    if not name:
        assert set(MODULES) - {"duplicate"} <= set(done.stdout.split())


def test_plugins_tells_the_sound_from_the_broken(transit, scratch):
    done = transit("plugins", "--json", env=scratch)
    assert done.returncode == 1
    listed = [row for row in json.loads(done.stdout)["data"]["plugins"] if row["group"] == "transit.commands"]
    rows = {row["distribution"]: row for row in listed}
    assert {name for name, row in rows.items() if row["status"] == "broken"} == {f"transit-{name}" for name in BROKEN}
    assert all(BROKEN[name] in rows[f"transit-{name}"]["cause"] for name in BROKEN)
    assert rows["transit-good"]["status"] == rows["transit-torch"]["status"] == "loaded"
    own = [row for row in listed if row["name"] == "plugins"]  # transit's own wins a duplicate name
    assert [(row["distribution"], row["status"]) for row in own] == [
        ("transit-cli", "loaded"),
        ("transit-duplicate", "shadowed"),
    ]


def test_all_but_transits_own_can_be_left_aside(transit, scratch):
    done = transit("--help", env=scratch | {"TRANSIT_PLUGINS": "none"})
    assert "good" not in done.stdout
    assert "plugins" in done.stdout


def code_blocks(page):
    """The files that a page shows: a line with the name in backquotes, then the block."""
    return dict(re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL))


def test_the_plugin_that_the_page_shows_works(transit, tmp_path):
    page = (ROOT / "docs" / "plugins.md").read_text()
    source = tmp_path / "transit-radius"
    source.mkdir()
    files = code_blocks(page)
    for name in ("pyproject.toml", "transit_radius.py"):
        (source / name).write_text(files[name])
    install(tmp_path / "site", source)
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    shown = re.search(r"^\$ transit (radius .*)\n((?:[^$`].*\n)+)", page, flags=re.MULTILINE)
    assert transit(*shown[1].split(), env=environment).stdout == shown[2]
    refused = transit("radius", "--", "-3", env=environment)
    assert refused.returncode == 2
    assert "0 < x" in refused.stderr
    assert "Turn a transit depth" in transit("--help", env=environment | {"COLUMNS": "120"}).stdout


def test_the_network_that_the_page_shows_trains(forked_transit, tmp_path):
    from tests.training.conftest import write_set

    page = (ROOT / "docs" / "plugins.md").read_text()
    (tmp_path / "my_net.py").write_text(code_blocks(page)["my_net.py"])
    write_set(tmp_path / "views")
    done = forked_transit(
        "train", "views", "--network", "my_net.py:build", "--device", "cpu", "--dry-run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_the_reader_that_the_page_shows_reads(transit, tmp_path):
    import numpy as np

    page = (ROOT / "docs" / "plugins.md").read_text()
    source = tmp_path / "source"
    source.mkdir()
    (source / "lc_reader.py").write_text(code_blocks(page)["lc_reader.py"])
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "transit-lc"\nversion = "1"\n[tool.setuptools]\npy-modules = ["lc_reader"]\n'
        '[project.entry-points."transit.readers"]\nlc = "lc_reader:read"\n'
    )
    install(tmp_path / "site", source)
    time = np.arange(0, 27, 0.02)
    flux = 1000 * (1 - 0.01 * (np.abs((time - 1 + 1.5) % 3 - 1.5) < 0.06))
    flux += np.random.default_rng(0).normal(0, 0.5, len(time))
    np.savetxt(tmp_path / "42.lc", np.column_stack([time, flux]))
    signal = ["--period", "3", "--epoch", "1", "--duration", "2.88"]
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    done = transit("data", "fold", "42.lc", *signal, "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "TIC 42" in done.stdout


def test_the_modules_that_plugins_may_rely_on_have_what_the_page_lists():
    page = (ROOT / "docs" / "plugins.md").read_text()
    rows = re.findall(r"^\| `(transit_cli[.\w]+)` \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for name, names in rows:
        module = importlib.import_module(name)
        assert sorted(re.findall(r"`(\w+)`", names)) == sorted(module.__all__)
        assert all(hasattr(module, listed) for listed in module.__all__)
