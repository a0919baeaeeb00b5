"""Choose among pretrained networks by their triage average precision on the `train` stars of a labelled set.

    python benchmarks/choose_pretrained.py RESULTS VIEWSET NETWORKS

Prints the best file of the recipes of two and of three views ("two FILE", "three FILE"), and the metrics of all on the
`train` and, on other stars, on the `val` part, which chooses nothing.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from transit_cli.data.viewset import ViewSet


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
                if (
                    split == "train"
                    and name.startswith("scores_PC,EB")
                    and not {"binary", "alone", "measured"} & set(recipe.split())
                ):
                    kind, file = recipe.split()[0], networks / f"{recipe}-{line['task']['seed']}.safetensors"
                    best[kind] = max(best.get(kind, (0.0, "")), (found, str(file)))
        print(f"# {recipe}: {'; '.join(shown)}; members {np.round(line.get('members', []), 4).tolist()}")
    for kind, (_, file) in best.items():
        print(f"{kind} {file}")


if __name__ == "__main__":
    main()
