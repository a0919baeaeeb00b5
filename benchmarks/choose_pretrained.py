"""Choose among pretrained networks by their triage average precision on the `train` stars of a labelled set.

    python benchmarks/choose_pretrained.py RESULTS VIEWSET NETWORKS

Prints the best file of the recipes of two and of three views for triage and for planets ("two AP FILE",
"three-PC AP FILE"), and the metrics of all on the `train` and, on other stars, on the `val` part, which chooses
nothing.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from transit_cli.data.viewset import ViewSet

#: Words in the names of recipes whose networks cannot be shipped: they take or tell other things.
UNFIT = {"binary", "alone", "measured", "wide"}


def main() -> None:
    results, viewset, networks = map(Path, sys.argv[1:])
    views = ViewSet.open(viewset)
    stars, splits = views.tces["star"], views.splits
    part = {"train": splits == "train"}
    part["val"] = (splits == "val") & ~np.isin(stars, stars[part["train"]])
    best: dict[str, tuple[float, str]] = {}
    for line in map(json.loads, (results / "results.jsonl").read_text().splitlines()):
        recipe, rows = line["task"]["recipe"], np.array(line["rows"])
        shown = []
        for name in [name for name in line if name.startswith("scores_")]:
            truth = np.isin(views.labels[rows], name.removeprefix("scores_").split(","))
            for split, mask in part.items():
                found = average_precision_score(truth[mask[rows]], np.array(line[name])[mask[rows]])
                shown.append(f"{name.removeprefix('scores_')} {split} {found:.4f}")
                kind = recipe.split()[0] if name.startswith("scores_PC,EB") else f"{recipe.split()[0]}-{name[7:]}"
                if split == "train" and name.startswith("scores_PC") and not UNFIT & set(recipe.split()):
                    file = networks / f"{recipe}-{line['task']['seed']}.safetensors"
                    best[kind] = max(best.get(kind, (0.0, "")), (found, str(file)))
        print(f"# {recipe}: {'; '.join(shown)}; members {np.round(line.get('members', []), 4).tolist()}")
    for kind, (found, file) in best.items():
        print(f"{kind} {found:.4f} {file}")


if __name__ == "__main__":
    main()
