"""Run the code cells of a notebook in one namespace and a temporary folder, and store what they print and draw.

    python tools/run_notebook.py docs/quickstart.ipynb

Needs neither Jupyter nor a kernel, so that tests run notebooks with what is installed; cells are plain Python.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(cells: list[dict[str, Any]]) -> None:
    """Execute the code cells in order, in the current folder, and replace their outputs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        cell["execution_count"], cell["outputs"] = number, []
        if printed.getvalue():
            text = printed.getvalue().splitlines(keepends=True)
            cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": text})
        for figure in map(plt.figure, plt.get_fignums()):
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
            data = {"image/png": base64.b64encode(image.getvalue()).decode()}
            cell["outputs"].append({"output_type": "display_data", "data": data, "metadata": {}})
        plt.close("all")


def main(file: Path) -> None:
    """Run a notebook and write it back."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    target = file.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(notebook["cells"])
        os.chdir(target.parent)
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
