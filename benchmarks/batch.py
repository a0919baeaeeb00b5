"""Which batch? `transit probe-batch` beside Lightning's `scale_batch_size`, one after the other on this machine.

    python benchmarks/batch.py [--network two-branch] [--device cuda] [--rows 200000] [--limit 600] [--largest 200000]

Each finder is a process of its own: what it answers, how many sizes it ran, in how many seconds. Every answer is then
put to the test: twenty training steps of that size in a new process, the way the finder's own loop would run them.
Lightning's finder runs in both of its modes, on as many random rows as are asked for, since it stops at the size of the
data set. By default it stops at 8,192 too; `--largest` lifts that (its `max_val`). Peers' processes that take longer
than the limit are ended, and said to be.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figure import Figure, save

VIEWS = {"global": 2001, "local": 201}


def lightning(mode, options):
    """Lightning's answer: prints {"answer", "sizes", "seconds"}."""
    import torch
    from lightning import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner
    from torch.utils.data import DataLoader, TensorDataset

    from transit_cli.bench import framework_process
    from transit_cli.bench.frameworks import BenchmarkConfig
    from transit_cli.model import registry

    config = BenchmarkConfig(options.network, VIEWS, 2, options.device)
    rows = TensorDataset(
        *(torch.randn(options.rows, length) for length in VIEWS.values()), (torch.arange(options.rows) % 2).float()
    )
    tried = []

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.batch_size = 2
            self.network = registry.build(options.network, VIEWS)

        def train_dataloader(self):
            return DataLoader(rows, batch_size=self.batch_size, shuffle=True)

        def training_step(self, row):
            if not tried or tried[-1] != len(row[-1]):
                tried.append(len(row[-1]))
            return framework_process.loss_of(self.network, config, row)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    with tempfile.TemporaryDirectory() as folder:
        kind = {"cuda": "gpu"}.get(options.device, options.device)
        trainer = Trainer(
            accelerator=kind, devices=1, default_root_dir=folder, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, gradient_clip_val=1.0, max_epochs=1,
        )  # fmt: skip
        begin = time.perf_counter()
        answer = Tuner(trainer).scale_batch_size(Module(), mode=mode, max_val=options.largest)
        print(json.dumps({"answer": answer, "sizes": tried, "seconds": time.perf_counter() - begin}))


def trains(options, size, plain):
    """Twenty steps of a size: as a plain loop with PyTorch's own optimizer, or as `transit train` would run them."""

    from transit_cli.device.select import select
    from transit_cli.training import workload
    from transit_cli.training.settings import StepSettings

    device = select(options.device)
    settings = StepSettings(batch_size=size, precision="fp32", execution="eager" if plain else "auto")
    run = workload.build(settings, options.network, VIEWS, device)
    runner, batch = run.runner, run.place(run.draw())
    for _ in range(3):
        runner.run(batch)
    device.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        runner.run(batch)
    device.synchronize()
    speed = 20 * size / (time.perf_counter() - begin)
    print(json.dumps({"samples_per_second": speed, "peak": device.memory().peak}))


def child(options, *arguments):
    """The last JSON line of a process of this file, and why there is none."""
    command = [sys.executable, __file__, "--network", options.network, "--device", options.device]
    command += ["--rows", str(options.rows), "--largest", str(options.largest), *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired:
        return None, f"not done after {options.limit:.0f} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return None, (done.stderr.strip().splitlines() or ["no word"])[-1][:100]
    return json.loads(lines[-1]), ""


def transit(options):
    """The probe's answer."""
    command = [sys.executable, "-m", "transit_cli", "probe-batch", "--network", options.network]
    command += ["--device", options.device, "--precision", "fp32", "--scalars", "", "--json"]
    command += ["--memory-limit", options.memory_limit] if options.memory_limit else []
    begin = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()[-400:]
    data = json.loads(done.stdout)["data"]
    sizes = [trial["batch_size"] for trial in data["trials"]]
    found = {"answer": data["largest_safe_batch"], "best": data["best_batch"], "sizes": sizes}
    return found | {"seconds": time.perf_counter() - begin, "why": data["stopped_by"]}, ""


def tell(name, found, why, options, plain):
    """A line of the table; the speed at the answer, or at the best size of those that worked."""
    if found is None:
        print(f"{name:22} {why}")
        return None
    speed = 0.0
    ran = "ran it" if found["answer"] in found["sizes"] else "never ran it"
    line = f"{name:22} {found['answer']:6} ({ran}), {len(found['sizes']):2} sizes, {found['seconds']:6.1f} s"
    for what in ("answer", "best"):
        if what in found:
            test, failed = child(options, "--test", str(found[what]), *(["--plain"] if plain else []))
            told = f"fails: {failed}"
            if test:
                speed = test["samples_per_second"]
                told = f"{speed:,.0f} samples/s"
                told += f", {test['peak'] / 2**30:.1f} GiB" if test["peak"] else ""
            line += f"; at {found[what]}: {told}"
    print(f"{line}\n{'':22} ran {' '.join(map(str, found['sizes']))}", flush=True)
    return found["seconds"], speed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="two-branch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--memory-limit", help="of the probe alone: Lightning's finder knows none")
    parser.add_argument("--largest", type=int, default=8192, help="the largest size that Lightning's finder may try")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--lightning")
    parser.add_argument("--test", type=int)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    if options.lightning:
        lightning(options.lightning, options)
        return
    if options.test:
        trains(options, options.test, options.plain)
        return
    print(f"{options.network} at 2001/201, float32, {options.device}, load {os.getloadavg()[0]:.1f}")
    ours = tell("transit probe-batch", *transit(options), options, plain=False)
    theirs = [
        tell(f"Lightning, {mode}", *child(options, "--lightning", mode), options, plain=True)
        for mode in ("power", "binsearch")
    ]
    seconds = [found[0] for found in theirs if found]
    if ours:
        beside = "Lightning's power" if seconds else ""
        ratio = seconds[0] / ours[0] if seconds else None
        figures = [Figure(f"probe-batch {options.network}", ours[0], "s", beside, ratio)]
        save(options.json, [*figures, Figure("its best batch trains", ours[1], "samples/s")])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
