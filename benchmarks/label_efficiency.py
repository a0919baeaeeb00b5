"""How good networks are with few labels: average precision of recipes of `transit train`, over seeds.

    python benchmarks/label_efficiency.py VIEWSET --group curve --out build/labels
    python benchmarks/label_efficiency.py VIEWSET --group vetting --out build/labels
    python benchmarks/label_efficiency.py build/labels --plot docs/label_efficiency.svg

Recipes with `labels` train on so many labelled signals, drawn by seed among the `train` stars that are not also in `val`,
and are judged on `val`: on new stars. Recipes with `folds` are judged out of fold, by star. Every training is a
`transit train` in a folder of its own; each result is a line of OUT/results.jsonl, and a training whose line is there is
not repeated. OUT/summary.json holds means and standard deviations over the seeds and the score of the seeds' mean.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

TRIAGE = {"target": "PC,EB", "views": "global,local"}
PERIOD = {"scalars": "period_days,duration_hours"}
ANY_USER = {"views": "global,local,secondary", "scalars": "period_days,duration_hours,snr,tmag,transit_depth"}
PUBLISHED = ANY_USER | {"scalars": ANY_USER["scalars"] + ",qingress,depth_change"}
VETTING = {"target": "PC", "epochs": 20, "learning_rate": 2e-3}
LABELS = (100, 300, 1000, 3000, 0)

#: Groups of recipes: options of `transit train` by name; `labels` (0 for all) or `folds` say how they are judged.
GROUPS: dict[str, dict[str, dict]] = {
    "curve": {
        "scratch": TRIAGE | PERIOD | {"labels": LABELS},
        "pretrained": TRIAGE | PERIOD | {"labels": LABELS, "init": "pretrained"},
    },
    "vetting": {
        "any-user": VETTING | ANY_USER | {"folds": 5, "init": "pretrained"},
        "published": VETTING | PUBLISHED | {"folds": 5, "init": "pretrained"},
    },
}


def tasks_of(recipes: dict[str, dict], seeds: int) -> list[dict]:
    """One task per training, the longest first."""
    found = []
    for name, recipe in recipes.items():
        options = dict(recipe)
        labels, own_seeds = options.pop("labels", (None,)), options.pop("seeds", seeds)
        for count in labels if isinstance(labels, list | tuple) else (labels,):
            for seed in range(own_seeds):
                found.append({"recipe": name, "labels": count, "seed": seed, "options": options})
    return sorted(found, key=lambda task: -(task["labels"] or 10**6) * task["options"].get("epochs", 20))


def key(task: dict) -> str:
    return f"{task['recipe']}|{task['labels']}|{task['seed']}"


def hidden_labels(source: Path, folder: Path, count: int, seed: int) -> Path:
    """A view set in which only `count` of the training stars' signals have labels, and none of a star in `val`."""
    from transit_cli.data.viewset import TCES, ViewSet, write_table

    viewset = ViewSet.open(source)
    labels, splits = viewset.labels.copy(), viewset.splits
    rows = viewset.labelled(("train",))
    fresh = rows[~np.isin(viewset.tces["star"][rows], viewset.tces["star"][splits == "val"])]
    chosen = np.random.default_rng(seed).permutation(fresh)[: count or len(fresh)]
    keep = np.isin(np.arange(len(labels)), chosen) | (splits == "val")
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and file.name != TCES:
            (folder / file.name).symlink_to(file.resolve())
    write_table(folder / TCES, dict(viewset.tces) | {"label": np.where(keep, labels, "UNK")})
    return folder


def run(job: tuple[dict, Path, str]) -> dict:
    """Train one task; its metrics."""
    import torch

    torch.set_num_threads(1)
    from sklearn.metrics import average_precision_score

    from transit_cli import config
    from transit_cli.data.viewset import ViewSet, read_table
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    task, viewset, device = job
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        where = viewset
        if task["labels"] is not None:
            where = hidden_labels(viewset, Path(temporary, "views"), task["labels"], task["seed"])
        options = dict(task["options"])
        for name in ("views", "scalars", "target"):
            if isinstance(options.get(name), str):
                options[name] = tuple(part for part in options[name].split(",") if part)
        judged = options.pop("judged", "")
        options |= {"viewset": where, "out": Path(temporary, "run"), "seed": 100 * task["seed"], "keep_checkpoints": 1}
        done = train(config.resolve(TrainSettings, options | {"device": device}))
        table = read_table(Path(temporary, "run", "scores.csv"))
        labels, scores = np.asarray(table["label"]), np.asarray(table["score"], float)
        positive = np.isin(labels, judged.split(",") if judged else options["target"])
        if judged:
            scores = sum(np.asarray(table[f"probability_{name}"], float) for name in judged.split(","))
        result = {"average_precision": float(average_precision_score(positive, scores))}
        result |= {"calibration_error": done.data["calibration_error"], "seconds": time.perf_counter() - begin}
        if "keep" in task:
            shutil.copytree(Path(temporary, "run"), task["keep"], dirs_exist_ok=True)
        del ViewSet
    return {"task": task, **result, "rows": np.asarray(table["row"], int).tolist(), "scores": scores.round(5).tolist()}


def summarise(out: Path, viewset: Path | None) -> dict:
    """Mean and spread over the seeds, and the average precision of the mean over the seeds' scores."""
    from sklearn.metrics import average_precision_score

    labels = None
    if viewset:
        from transit_cli.data.viewset import ViewSet

        labels = ViewSet.open(viewset).labels
    found: dict[str, dict] = {}
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    for name in dict.fromkeys((line["task"]["recipe"], line["task"]["labels"]) for line in lines):
        group = [line for line in lines if (line["task"]["recipe"], line["task"]["labels"]) == name]
        values = [line["average_precision"] for line in group]
        entry = {
            "recipe": name[0],
            "labels": name[1],
            "seeds": len(group),
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "calibration_error": float(np.mean([line["calibration_error"] for line in group])),
            "seconds": float(np.mean([line["seconds"] for line in group])),
            "options": group[0]["task"]["options"],
        }
        if labels is not None and all(line["rows"] == group[0]["rows"] for line in group):
            options = group[0]["task"]["options"]
            positive = np.isin(labels[group[0]["rows"]], (options.get("judged") or options["target"]).split(","))
            mean = np.mean([line["scores"] for line in group], axis=0)
            entry["mean_of_seeds"] = float(average_precision_score(positive, mean))
        found[f"{name[0]}|{name[1]}"] = entry
    summary = {"results": list(found.values())}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def plot(summary: dict, file: Path) -> None:
    """The curves of recipes that were trained on several numbers of labels."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "transit"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    names = dict.fromkeys(entry["recipe"] for entry in summary["results"])
    for name in names:
        points = sorted((e["labels"] or 12900, e["mean"], e["deviation"] or 0) for e in summary["results"]
                        if e["recipe"] == name and e["labels"] is not None)  # fmt: skip
        if len(points) > 1:
            x, y, spread = zip(*points, strict=True)
            axes.errorbar(x, y, spread, marker="o", markersize=3, capsize=2, linewidth=1.2, label=name)
    axes.set(xscale="log", xlabel="labelled signals", ylabel="average precision, new stars")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="view set, or with --plot the folder of the results")
    parser.add_argument("--out", type=Path, default=Path("build/labels"))
    parser.add_argument("--group", help=f"one of {', '.join(GROUPS)}, or a JSON file of recipes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=0, help="seconds after which no training is begun")
    parser.add_argument("--plot", type=Path, help="only draw the results in PATH")
    given = parser.parse_args()
    if given.plot:
        plot(json.loads((given.path / "summary.json").read_text()), given.plot)
        return
    recipes = GROUPS[given.group] if given.group in GROUPS else json.loads(Path(given.group).read_text())
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.jsonl"
    done = {key(json.loads(line)["task"]) for line in results.read_text().splitlines()} if results.exists() else set()
    tasks = [task for task in tasks_of(recipes, given.seeds) if key(task) not in done]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    begin = time.monotonic()

    def jobs():
        for task in tasks:
            if given.limit and time.monotonic() - begin > given.limit:
                return
            yield task, given.path, given.device

    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool, results.open("a") as stream:
        pending, source = [], jobs()
        while True:
            while len(pending) < given.jobs and (job := next(source, None)):
                pending.append((job[0], pool.apply_async(run, (job,))))
            if not pending:
                break
            for item in [item for item in pending if item[1].ready()]:
                pending.remove(item)
                try:
                    line = item[1].get()
                except Exception as error:  # noqa: BLE001 - the other trainings go on
                    print(f"{key(item[0])}: {type(error).__name__}: {error}", flush=True)
                    continue
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                print(f"{key(line['task'])}: AP {line['average_precision']:.4f}, {line['seconds']:.0f} s", flush=True)
            time.sleep(0.05)
    for entry in summarise(given.out, given.path)["results"]:
        shown = f"{entry['recipe']:24} {entry['labels']!s:>6} {entry['mean']:.4f} +- {entry['deviation'] or 0:.4f}"
        print(shown + (f", mean of seeds {entry['mean_of_seeds']:.4f}" if "mean_of_seeds" in entry else ""))


if __name__ == "__main__":
    main()
