"""A benchmark as a `Result`: tables, and the document for `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from transit_cli.bench import claims, previous
from transit_cli.results import Result, Table, Text

if TYPE_CHECKING:
    from transit_cli.bench.benchmark import Benchmark
    from transit_cli.bench.frameworks import Comparison
    from transit_cli.bench.throughput import Throughput
    from transit_cli.profiling.roofline import Peaks


def result(bench: Benchmark) -> Result:
    """The result to print."""
    blocks: list[Table | Text] = [figure_table(bench)]
    blocks += [energy_table(bench)] if not bench.no_energy else [Text(f"energy: skip ({bench.no_energy})")]
    blocks.append(claim_table(bench))
    blocks += [
        framework_table(network, comparison, bench.framework_batch) for network, comparison in bench.comparisons.items()
    ]
    data = document(bench)
    if bench.previous_run:
        blocks.append(change_table(bench, data))
    return Result(data, blocks, verdict(bench))


def verdict(bench: Benchmark) -> str:
    """The best training and inference speed of each network."""
    parts = []
    for network in dict.fromkeys(item.network for item in bench.figures):
        train, infer = best(bench, network, "train"), best(bench, network, "infer")
        words = [f"trains {train.samples_per_second:,.0f}"] if train else []
        words += [f"infers {infer.samples_per_second:,.0f}"] if infer else []
        parts.append(f"{network} {' and '.join(words)} samples/s")
    return f"on {bench.device.facts.name}, {'; '.join(parts)}"


def best(bench: Benchmark, network: str, kind: str) -> Throughput | None:
    """The fastest figure of a network and pass."""
    found = [item for item in bench.figures if (item.network, item.kind) == (network, kind)]
    return max(found, key=lambda item: item.samples_per_second, default=None)


def figure_table(bench: Benchmark) -> Table:
    """Every figure."""
    rows = [
        (
            item.network,
            item.kind,
            item.batch_size,
            f"{item.samples_per_second:,.0f}",
            f"{item.spread:.0%}",
            f"{1000 * item.median:.4g}",
            f"{item.warm_up_seconds:.1f}",
            f"{item.bytes_share(bench.peaks):.0%}",
            f"{item.flops_share(bench.peaks):.0%}",
            item.execution,
        )
        for item in bench.figures
    ]
    skipped = [
        f"left out: {item.network}, {item.kind}, batch {item.batch_size}, "
        f"about {item.seconds:.0f} s; needs --seconds {item.needed:.0f}"
        for item in bench.skipped
    ]
    views = "/".join(map(str, bench.views.values()))
    peaks = f"{bench.peaks.copy / 1e9:,.1f} GB/s copied, {bench.peaks.matmul / 1e9:,.0f} GFLOP/s of a matrix product"
    note = (
        f"bytes, flops: shares of this machine's own peaks, {peaks}.\n"
        "Bytes count every operator's tensors once; caches make the true traffic smaller. IQR: the\n"
        "range of the middle half of the timings. warm-up s: the first run, not counted."
    )
    return Table(
        ("network", "pass", "batch", "samples/s", "IQR", "ms", "warm-up s", "bytes", "flops", "execution"),
        rows,
        title=f"{bench.device.facts.name}, {bench.device.kind}, {bench.threads} threads, "
        f"torch {torch.__version__}, views of {views} bins",
        note="\n".join([note, *skipped]),
    )


def energy_table(bench: Benchmark) -> Table:
    """Power and energy of each figure."""
    rows = [
        (item.network, item.kind, item.batch_size, f"{item.watts or 0:.1f}", f"{item.samples_per_joule or 0:.1f}")
        for item in bench.figures
    ]
    note = "Includes idle power and other programs. samples/J: samples/s per watt."
    return Table(("network", "pass", "batch", "W", "samples/J"), rows, title="Energy, by zeus", note=note)


def claim_table(bench: Benchmark) -> Table:
    """This machine compared with the guide's claims."""
    train, infer = best(bench, claims.NETWORK, "train"), best(bench, claims.NETWORK, "infer")

    def row(name: str, here: str, attribute: str, form: str) -> tuple[str, ...]:
        return (name, here, *(format(getattr(claim, attribute), form) for claim in claims.CLAIMS.values()))

    measured = bench.figures[0].network == claims.NETWORK if bench.figures else False
    largest = f"{bench.largest_batch:,}" if bench.largest_batch and measured else "--largest-batch"
    watts, per_joule = (train.watts, train.samples_per_joule) if train else (None, None)
    rows = [
        row("training samples/s", f"{train.samples_per_second:,.0f}" if train else "-", "train", ",d"),
        row("inference samples/s", f"{infer.samples_per_second:,.0f}" if infer else "-", "infer", ",d"),
        row("largest batch", largest, "largest_batch", "d"),
        row("memory bandwidth", f"{train.bytes_share(bench.peaks):.0%}" if train else "-", "bandwidth_share", ".0%"),
        row("power, W", "skip" if watts is None else f"{watts:.1f}", "watts", "d"),
        row("samples/s per W", "skip" if per_joule is None else f"{per_joule:.1f}", "samples_per_joule", ".1f"),
    ]
    return Table(
        ("two-branch, best batch", "this machine", *(f"{name} (claim)" for name in claims.CLAIMS)),
        rows,
        note=f"Claims of {claims.SOURCE};\nnot verified; the guide gives neither batch size nor view lengths.",
    )


def framework_table(network: str, comparison: Comparison, batch: int) -> Table:
    """Comparison with other frameworks."""
    rows = [
        (
            item.name,
            f"{item.samples_per_second:,.0f}",
            f"{item.ratio:.2f}",
            f"{item.ratios[0]:.2f} to {item.ratios[-1]:.2f}",
            item.execution,
        )
        for item in comparison.results
    ]
    absent = f"not installed and skipped: {', '.join(comparison.absent)} (pip install {' '.join(comparison.absent)})"
    return Table(
        ("framework", "samples/s", f"x {comparison.baseline}", "over rounds", "execution"),
        rows,
        title=f"{network} compared with other frameworks, in turn, batch {batch}, float32",
        note=absent if comparison.absent else "",
    )


def change_table(bench: Benchmark, data: dict[str, Any]) -> Table:
    """Comparison with a previous run."""
    assert bench.previous_run is not None
    before, changes = bench.previous_run
    rows = [
        (
            item.network,
            item.kind,
            item.batch_size,
            f"{item.batch_size / change.before:,.0f}",
            f"{item.batch_size / change.after:,.0f}",
            f"{1 / change.ratio:.2f}",
            "changed" if change.significant else "unchanged",
        )
        for item, change in changes
    ]
    differing = previous.differences(before, data)
    return Table(
        ("network", "pass", "batch", "previous", "current", "ratio", "verdict"),
        rows,
        title="Samples/s, previous and current",
        note="different: " + "; ".join(differing) if differing else "changed: by more than 2 % and significant at 1 %",
    )


def document(bench: Benchmark) -> dict[str, Any]:
    """The document for `--json`."""
    return {
        "device": bench.device.kind,
        "device_name": bench.device.facts.name,
        "threads": bench.threads,
        "busy_percent": bench.busy_percent,
        "torch": torch.__version__,
        "views": bench.views,
        "peak_copy_bytes_per_second": bench.peaks.copy,
        "peak_matmul_flops_per_second": bench.peaks.matmul,
        "figures": [_record(item, bench.peaks) for item in bench.figures],
        "skipped": [
            {
                "network": item.network,
                "pass": item.kind,
                "batch_size": item.batch_size,
                "expected_seconds": item.seconds,
            }
            for item in bench.skipped
        ],
        "energy": bench.no_energy or "zeus",
        "largest_safe_batch": bench.largest_batch,
        "guide_claims": {name: vars(claim) for name, claim in claims.CLAIMS.items()},
        "peers": {
            network: {
                "batch_size": bench.framework_batch,
                "baseline": comparison.baseline,
                "absent": comparison.absent,
                "results": [vars(item) | {"ratio": item.ratio} for item in comparison.results],
            }
            for network, comparison in bench.comparisons.items()
        },
        "changes": [
            {
                "network": item.network,
                "pass": item.kind,
                "batch_size": item.batch_size,
                "seconds_ratio": change.ratio,
                "significant": change.significant,
            }
            for item, change in (bench.previous_run[1] if bench.previous_run else ())
        ],
    }


def _record(item: Throughput, peaks: Peaks) -> dict[str, Any]:
    return {
        "network": item.network,
        "pass": item.kind,
        "batch_size": item.batch_size,
        "precision": item.precision,
        "execution": item.execution,
        "samples_per_second": item.samples_per_second,
        "seconds": item.median,
        "spread": item.spread,
        "samples_seconds": item.seconds,
        "warm_up_seconds": item.warm_up_seconds,
        "bytes": item.bytes,
        "flops": item.flops,
        "bytes_share": item.bytes_share(peaks),
        "flops_share": item.flops_share(peaks),
        "joules": item.joules,
        "watts": item.watts,
        "samples_per_joule": item.samples_per_joule,
    }
