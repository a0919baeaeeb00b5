"""The site has every page, links lead somewhere, and the quickstart notebook runs."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "quickstart.ipynb"


def pages(items):
    for item in items:
        value = next(iter(item.values()))
        yield from [value] if isinstance(value, str) else pages(value)


def test_the_site_lists_every_page_once():
    listed = sorted(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    found = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb"), DOCS / "result.schema.json"]
    assert listed == sorted(str(file.relative_to(DOCS)) for file in found)


@pytest.mark.parametrize(
    "file",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")],
    ids=lambda file: file.name,
)
def test_links_lead_to_files(file):
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if not link.startswith(("http", "mailto:")):
            assert (file.parent / link).exists(), link


def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_holds_what_its_cells_printed():
    for cell in cells():
        compile("".join(cell["source"]), "cell", "exec")
        assert cell["outputs"], "python tools/run_notebook.py docs/quickstart.ipynb"
    assert not re.search(r"Traceback|/home/|/tmp/", NOTEBOOK.read_text())


@pytest.mark.torture
def test_the_notebook_runs(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "tools" / "run_notebook.py")
    run_notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_notebook)
    monkeypatch.chdir(tmp_path)
    found = cells()
    run_notebook.run(found)
    printed = "".join("".join(output.get("text", "")) for cell in found for output in cell["outputs"])
    assert re.search(r"P = 3\.522\d+ d", printed)
    assert re.search(r"disposition +PC", printed)
