"""How good networks are with few labels: average precision of recipes of `transit train`, over seeds.

    python benchmarks/label_efficiency.py VIEWSET --group curve --out build/labels
    python benchmarks/label_efficiency.py VIEWSET --group vetting --out build/labels
    python benchmarks/label_efficiency.py docs/results/2026-12-01-label-efficiency.json --plot out.svg

Recipes with `labels` train on so many labelled signals, drawn by seed among the `train` stars that `val` lacks,
and are judged on `val`: on new stars. Recipes with `folds` are judged out of fold, by star. Every training is a
`transit train` in a folder of its own; each result is a line of OUT/results.jsonl, and a training that has one is
not repeated. OUT/summary.json holds means and standard deviations over the seeds and the score of the seeds' mean.
"""

from __future__ import annotations

import argparse
import csv
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
    """One task per training: those of many folds first, then seed by seed, the longest first, in the order of recipes.

    Args:
        recipes: options by name.
        seeds: seeds of all recipes; 0 for what each says, by default 5.
    """
    found = []
    for name, recipe in recipes.items():
        options = dict(recipe)
        labels, own_seeds = options.pop("labels", (None,)), options.pop("seeds", 5)
        for count in labels if isinstance(labels, list | tuple) else (labels,):
            task = {"recipe": name, "labels": count, "options": options}
            found += [task | {"seed": seed} for seed in range(seeds or own_seeds)]
    return sorted(found, key=lambda task: (not task["options"].get("folds"), task["seed"], -(task["labels"] or 10**6)))


def key(task: dict) -> str:
    return f"{task['recipe']}|{task['labels']}|{task['seed']}"


def hidden_labels(source: Path, folder: Path, count: int, seed: int) -> Path:
    """A view set in which only `count` of the training stars' signals have labels, and none of a star in `val`."""
    from transit_cli.data.viewset import TCES, ViewSet

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
    with (source / TCES).open(newline="") as old, (folder / TCES).open("w", newline="") as new:
        table = csv.DictReader(old)  # all columns, in the order of the arrays
        writer = csv.DictWriter(new, table.fieldnames or [], lineterminator="\n")
        writer.writeheader()
        for row, kept in zip(table, keep, strict=True):
            writer.writerow(row if kept else row | {"label": "UNK"})
    return folder


def run(job: tuple[dict, Path, str, Path | None]) -> dict:
    """Train one task; its metrics."""
    import torch

    torch.set_num_threads(1)
    from sklearn.metrics import average_precision_score

    from transit_cli import config
    from transit_cli.data.viewset import read_table
    from transit_cli.training.settings import TrainSettings
    from transit_cli.training.train import train

    task, viewset, device, keep = job
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        where = viewset
        if task["labels"] is not None:
            where = hidden_labels(viewset, Path(temporary, "views"), task["labels"], task["seed"])
        options = dict(task["options"])
        for name in ("views", "scalars", "target", "unit_depth"):
            if isinstance(options.get(name), str):
                options[name] = tuple(part for part in options[name].split(",") if part)
        judged, trained_on = options.pop("judged", ""), options.pop("train_on", "")
        where = Path(trained_on) if trained_on else where
        options |= {"viewset": where, "out": Path(temporary, "run"), "seed": 101 * task["seed"], "keep_checkpoints": 1}
        done = train(config.resolve(TrainSettings, options | {"device": device}))
        result = {name: done.data[name] for name in ("calibration_error", "average_precision")}
        result["members"] = [fit["validation_average_precision"] for fit in done.data["fits"]]
        if trained_on:
            rows, labels, probability, members = judge(Path(temporary, "run"), viewset, device)
            result["members"] = members
        else:
            table = read_table(Path(temporary, "run", "scores.csv"))
            rows, labels = np.asarray(table["row"], int), np.asarray(table["label"])
            classes = done.data["classes"]
            probability = {name: np.asarray(table[f"probability_{name}"], float) for name in classes}
            probability = probability or {options["target"]: np.asarray(table["score"], float)}
        for name in judged.split(";") if judged else [",".join(options["target"])]:
            key = tuple(name.split(","))
            scores = probability[key] if key in probability else sum(probability.get(label, 0.0) for label in key)
            found = float(average_precision_score(np.isin(labels, key), scores))
            result |= {f"average_precision_{name}": found, f"scores_{name}": scores.round(5).tolist()}
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(
                Path(temporary, "run", "model.safetensors"), keep / f"{task['recipe']}-{task['seed']}.safetensors"
            )
    return {"task": task, **result, "seconds": time.perf_counter() - begin, "rows": rows.tolist()}


def judge(run: Path, viewset: Path, device: str) -> tuple[np.ndarray, np.ndarray, dict, list[float]]:
    """All labelled rows of a view set, their labels, probabilities of the classes, and each member's AP."""
    from sklearn.metrics import average_precision_score

    from transit_cli.data.viewset import ViewSet
    from transit_cli.device.select import select
    from transit_cli.vetting.ensemble import open_run

    views, ensemble = ViewSet.open(viewset), open_run(run, select(device), trust=True)
    rows = views.labelled(("train", "val"))
    each = ensemble.probabilities_of_rows(views, rows)
    found, truth = each.mean(axis=0), np.isin(views.labels[rows], ensemble.target)
    scores = ensemble.positive(each)
    members = [float(average_precision_score(truth, member)) for member in scores]
    names = [(name,) for name in ensemble.card.classes] or [None, tuple(ensemble.card.target)]
    probability = {name[0] if len(name) == 1 else name: found[:, i] for i, name in enumerate(names) if name}
    return rows, views.labels[rows], probability, members


def summarise(out: Path, viewset: Path) -> dict:
    """By recipe, labels and target: mean and spread over the seeds, and the metric of the seeds' mean score."""
    from sklearn.metrics import average_precision_score

    from transit_cli.data.viewset import ViewSet

    labels = ViewSet.open(viewset).labels
    results = out / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    found = []
    for recipe, count in dict.fromkeys((line["task"]["recipe"], line["task"]["labels"]) for line in lines):
        group = [line for line in lines if (line["task"]["recipe"], line["task"]["labels"]) == (recipe, count)]
        for field in [field for field in group[0] if field.startswith("scores_")]:
            target = field.removeprefix("scores_")
            each = [line[f"average_precision_{target}"] for line in group]
            entry = {"recipe": recipe, "labels": count, "target": target, "seeds": len(group)}
            entry |= {"mean": float(np.mean(each)), "deviation": float(np.std(each, ddof=min(1, len(each) - 1)))}
            rows = group[0]["rows"]
            if all(line["rows"] == rows for line in group):
                mean = np.mean([line[field] for line in group], axis=0)
                entry["mean_of_seeds"] = float(average_precision_score(np.isin(labels[rows], target.split(",")), mean))
            for name in ("calibration_error", "seconds"):
                entry[name] = float(np.mean([line[name] for line in group]))
            if group[0]["task"]["options"]["target"] == target:  # of mean probabilities, before calibration in parts
                entry["uncalibrated"] = float(np.mean([line["average_precision"] for line in group]))
            found.append(entry | {"options": group[0]["task"]["options"]})
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps({"results": found}, indent=1) + "\n")
    return {"results": found}


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
        if points:
            x, y, spread = zip(*points, strict=True)
            axes.errorbar(x, y, spread, marker="o", markersize=3, capsize=2, linewidth=1.2, label=name)
    axes.set(xscale="log", xlabel="labelled signals", ylabel="average precision, new stars")
    axes.grid(alpha=0.3)
    axes.set_ylim(0.7, 0.98)
    axes.legend(frameon=False, fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "path", type=Path, help="view set, or with --plot results: a JSON file, or the folder of a summary"
    )
    parser.add_argument("--out", type=Path, default=Path("build/labels"))
    parser.add_argument("--group", help=f"one of {', '.join(GROUPS)}, or a JSON file of recipes")
    parser.add_argument("--seeds", type=int, default=0, help="seeds of each recipe; by default what it says, or 5")
    parser.add_argument("--epochs", type=int, help="epochs of all recipes, to try them out")
    parser.add_argument("--summarise", action="store_true", help="train nothing: only summarise the results in OUT")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=0, help="seconds after which no training is begun")
    parser.add_argument("--keep", type=Path, help="folder for the networks")
    parser.add_argument("--plot", type=Path, help="only draw the results in PATH")
    given = parser.parse_args()
    if given.plot:
        file = given.path / "summary.json" if given.path.is_dir() else given.path
        plot(json.loads(file.read_text()), given.plot)
        return
    if not given.summarise:
        train_group(given)
    for entry in summarise(given.out, given.path)["results"]:
        print(
            f"{entry['recipe']:24} {entry['labels']!s:>6} {entry['target']:6} {entry['mean']:.4f} +- "
            f"{entry['deviation']:.4f}, uncalibrated {entry.get('uncalibrated', float('nan')):.4f}, "
            f"mean of seeds {entry.get('mean_of_seeds', float('nan')):.4f}, "
            f"ECE {entry['calibration_error']:.3f}, {entry['seeds']} seeds, {entry['seconds']:.0f} s"
        )


def train_group(given: argparse.Namespace) -> None:
    """Train what has no result yet."""
    recipes = GROUPS[given.group] if given.group in GROUPS else json.loads(Path(given.group).read_text())
    if given.epochs:
        recipes = {name: recipe | {"epochs": given.epochs} for name, recipe in recipes.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.jsonl"
    done = {key(json.loads(line)["task"]) for line in results.read_text().splitlines()} if results.exists() else set()
    tasks = [task for task in tasks_of(recipes, given.seeds) if key(task) not in done]
    train_all([(task, given.path, given.device, given.keep) for task in tasks], results, given.jobs, given.limit)


def train_all(jobs: list[tuple], results: Path, processes: int, limit: float) -> None:
    """Train the tasks in several processes; none is begun after `limit` seconds, if it is not 0."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    begin = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool, results.open("a") as stream:
        pending, source = [], iter(jobs)
        while True:
            late = limit and time.monotonic() - begin > limit
            while not late and len(pending) < processes and (job := next(source, None)):
                pending.append((job[0], pool.apply_async(run, (job,))))
            if not pending:
                return
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


if __name__ == "__main__":
    main()
