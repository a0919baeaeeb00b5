"""What the real training loop asks of MPS, counted on the simulated device: operators a step, and waits of the host.

MPS cannot capture a step, so that every operator is a launch of its own, and each wait empties its queue. The counts
are the program's and hold on a Mac too; what either costs there is not known here.
"""

from tests.training.conftest import write_set

#: Operators of one optimizer step of the two-branch network that reach the device, feeding and augmentation included:
#: 157, and 197 with the casts of autocast, when this was written.
MOST_OPERATORS = {"fp32": 160, "bf16": 200}
#: Waits of one look of the screen: the loss, and whether it is finite.
WAITS_OF_A_LOOK = 2
STEPS = 15


def train(folder, steps):
    """Counters of epochs of `steps` and of twice as many steps, by what is counted: one process for all."""
    from pathlib import Path

    import simulated_mps

    from transit_cli.device import environment

    environment.prepare()
    from transit_cli.training import train
    from transit_cli.training.runs import screen
    from transit_cli.training.settings import TrainSettings

    found = {}
    for what, precision, interval in (("fp32", "fp32", 1e9), ("bf16", "bf16", 1e9), ("looks", "fp32", 0.0)):
        screen.INTERVAL = interval
        for count in (steps, 2 * steps):
            simulated_mps.reset_counters()
            where = {"viewset": Path(folder, f"views-{count}"), "out": Path(folder, f"{what}-{count}")}
            train.train(
                TrainSettings(
                    **where, epochs=1, batch_size=4, precision=precision, scalars=(), device="mps", execution="eager"
                )
            )
            totals = {name: sum(counter.values()) for name, counter in simulated_mps.counters().items()}
            found.setdefault(what, []).append(totals)
    return found


def test_steps_never_wait_and_their_operators_stay_few(mps, tmp_path):
    for count in (STEPS, 2 * STEPS):
        write_set(tmp_path / f"views-{count}", size=6 * count)  # two thirds of them train, 4 a step
    done = mps.run(train, str(tmp_path), STEPS)
    assert done.returncode == 0, done.stderr
    more = {}  # of so many more steps: the epochs' ends are alike
    for what, (few, many) in done.value.items():
        more[what] = {name: (many[name] - few[name]) / STEPS for name in many}
        assert few["fell_back"] == many["fell_back"] == 0
        assert few["ran"] > 0
    for precision, most in MOST_OPERATORS.items():
        assert more[precision]["synchronised"] == 0
        assert 100 < more[precision]["ran"] <= most
    assert 0 < more["looks"]["synchronised"] <= WAITS_OF_A_LOOK  # and it looks once a second, not at every step
