"""Training speed beside what one would otherwise use, on this machine's CPU: `make bench`.

Each contender is a process of its own, so that none profits from another's settings, and they take turns, so that a
busy spell hits all of them. All train the same network on the same in-memory views with AdamW, a one-cycle schedule and
gradients clipped at 1.0. Figures are medians over rounds; ratios are medians of each round's ratio to Lightning, or to
the plain loop where Lightning is not installed.

    python benchmarks/train.py [--network two-branch] [--batch 64] [--rounds 8] [--steps 12]

Peers run where they are installed (pip install lightning accelerate); the others run without them.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

VIEWS = {"global": 2001, "local": 201}
TOTAL, PEAK = 100_000, 5e-3
CONTENDERS = ("lightning", "accelerate", "plain", "transit-one-thread", "transit")
PEERS = ("lightning", "accelerate")


def examples(batch):
    import torch

    torch.manual_seed(0)
    views = {name: torch.randn(8 * batch, length) for name, length in VIEWS.items()}
    return views, torch.randint(2, (8 * batch,)).float()


def loader(batch):
    from torch.utils.data import DataLoader, TensorDataset

    views, targets = examples(batch)
    return DataLoader(TensorDataset(*views.values(), targets), batch_size=batch, shuffle=True, drop_last=True)


def peers_parts(network):
    """Network, optimizer and schedule as a person would write them."""
    import torch

    from transit_cli.model import registry

    torch.manual_seed(0)
    network = registry.build(network, VIEWS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=1e-4)
    return network, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=TOTAL)


def loss_of(network, row):
    from torch.nn.functional import binary_cross_entropy_with_logits

    *views, targets = row
    return binary_cross_entropy_with_logits(network(dict(zip(VIEWS, views, strict=True))), targets)


def endless(batches):
    while True:
        yield from batches


def plain(network, batch):
    import torch

    network, optimizer, schedule = peers_parts(network)
    rows = endless(loader(batch))

    def steps(count):
        begin = time.perf_counter()
        for row in islice(rows, count):
            loss_of(network, row).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return time.perf_counter() - begin

    return steps


def accelerate(network, batch):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    network, optimizer, schedule, rows = accelerator.prepare(*peers_parts(network), loader(batch))
    rows = endless(rows)

    def steps(count):
        begin = time.perf_counter()
        for row in islice(rows, count):
            accelerator.backward(loss_of(network, row))
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return time.perf_counter() - begin

    return steps


def lightning(network, batch):
    import lightning

    parts, rows = peers_parts(network), loader(batch)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = parts[0]

        def training_step(self, row):
            return loss_of(self.network, row)

        def configure_optimizers(self):
            return {"optimizer": parts[1], "lr_scheduler": {"scheduler": parts[2], "interval": "step"}}

    class Clock(lightning.Callback):
        """From the end of the first step, which sets things up, to the end of the last."""

        def __init__(self):
            self.ends = []

        def on_train_batch_end(self, *_):
            self.ends.append(time.perf_counter())

    module = Module()

    def steps(count):
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = lightning.Trainer(
                accelerator="cpu",
                max_steps=count + 1,
                gradient_clip_val=1.0,
                default_root_dir=folder,
                callbacks=[clock],
            )
            trainer.fit(module, rows)
        return clock.ends[-1] - clock.ends[0]

    return steps


def transit(network, batch):
    """What `transit train` runs: the resident feed and the step."""
    import numpy as np
    import torch

    from transit_cli.data.feed import Batching, Examples, Resident
    from transit_cli.device.select import select
    from transit_cli.model import registry
    from transit_cli.training.settings import StepSettings
    from transit_cli.training.step import Batch, Step

    torch.manual_seed(0)
    device = select("cpu")
    step = Step(registry.build(network, VIEWS), device, StepSettings(batch_size=batch), TOTAL)
    feed = Resident(Examples(*examples(batch), np.arange(8 * batch)), device.torch_device)
    groups = (group for epoch in range(10**6) for group in feed.epoch(Batching(8 * batch, batch, 1), 0, epoch))
    total = torch.zeros(())

    def steps(count):
        begin = time.perf_counter()
        for group in islice(groups, count):
            total.add_(step.step([Batch(*pair) for pair in group]))
        steps.way = step.way.name
        return time.perf_counter() - begin

    return steps


def child(name, network, batch):
    from transit_cli.device import environment

    if name.startswith("transit"):
        environment.prepare()
    makers = {"plain": plain, "accelerate": accelerate, "lightning": lightning}
    steps = makers.get(name, transit)(network, batch)
    for line in sys.stdin:
        seconds = steps(int(line))
        print(json.dumps({"seconds": seconds, "way": getattr(steps, "way", "")}), flush=True)


def start(name, arguments, cache):
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    if name == "transit-one-thread":
        environment["OMP_NUM_THREADS"] = "1"
    network = ["--network", arguments.network, "--batch", str(arguments.batch)]
    command = [sys.executable, __file__, "--child", name, *network]
    with Path(cache, f"{name}.stderr").open("w") as errors:
        return subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )


def ask(name, process, count, cache):
    """Let a contender run, and give what it says of it."""
    try:
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("{"):
                return json.loads(line)
    except BrokenPipeError:
        pass
    words = Path(cache, f"{name}.stderr").read_text()
    sys.exit(f"{name} ended before its time:\n{words[-2000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="two-branch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.network, arguments.batch)
        return
    absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
    running = [name for name in CONTENDERS if name not in absent]
    with tempfile.TemporaryDirectory() as cache:
        processes = {name: start(name, arguments, cache) for name in running}
        for name in running:
            ask(name, processes[name], 4, cache)
        load = [os.getloadavg()[0]]
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append({name: ask(name, processes[name], arguments.steps, cache) for name in running})
            load.append(os.getloadavg()[0])
        for process in processes.values():
            process.communicate()
    print(
        f"{arguments.network}, batch {arguments.batch}, {arguments.rounds} rounds of {arguments.steps} steps, ", end=""
    )
    print(f"{os.cpu_count()} cores, load {min(load):.1f} to {max(load):.1f} (the benchmark itself makes about 2)")
    beside = "lightning" if "lightning" in running else "plain"
    for name in running:
        speed = statistics.median(arguments.batch * arguments.steps / turn[name]["seconds"] for turn in rounds)
        ratios = sorted(turn[beside]["seconds"] / turn[name]["seconds"] for turn in rounds)
        spread = f"{statistics.median(ratios):5.2f} x {beside} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:20} {speed:8,.0f} samples/s  {spread}  {rounds[-1][name]['way']}".rstrip())
    if absent:
        print(f"not installed, so left out: {', '.join(absent)} (pip install {' '.join(absent)})")


if __name__ == "__main__":
    main()
