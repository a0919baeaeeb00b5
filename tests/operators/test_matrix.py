"""Question 3: PyTorch's operator database on a device, and matrices that can be kept and compared."""

import json
import sys

import pytest
import torch

from transit_cli.operators.op_database import matrix
from transit_cli.operators.op_database import upstream as upstream_failures
from transit_cli.operators.settings import OperatorDatabaseSettings
from transit_cli.utils.isolation import ChildExit

NAMES = ["add", "empty_permuted", "exp", "heaviside", "nn.functional.adaptive_avg_pool1d", "nn.functional.gelu", "tan"]


def ask_database(names):
    """Rows of a few operators of the database, and what PyTorch's own tests expect to fail."""
    import os

    os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] = "1"
    import torch

    torch.set_num_threads(1)
    torch.set_warn_always(True)
    from transit_cli.device.select import select
    from transit_cli.operators.op_database import database, upstream

    rows = {}
    database.check(select("mps"), names, 4, lambda event: "name" in event and rows.update({event.pop("name"): event}))
    known = upstream.known_failures(database.operators())
    return {"rows": rows, "known": {part: sorted(found) for part, found in known.items()}}


@pytest.fixture(scope="module")
def asked(mps):
    """What a process with planted faults answers."""
    faults = ["wrong:exp:0.01", "wrong:gelu_backward:0.01", "error:tan"]
    done = mps.run(ask_database, NAMES, faults=faults, env={"PYTORCH_ENABLE_MPS_FALLBACK": "1"}, timeout=580)
    assert done.returncode == 0, done.stderr
    return done.value


def test_a_device_with_faults(asked):
    rows = asked["rows"]
    assert {name: (row["forward"], row["gradient"]) for name, row in rows.items()} == {
        "add": ("ok", "ok"),
        "empty_permuted": ("not judged", "none"),  # uninitialised memory
        "exp": ("wrong", "wrong"),  # its gradient is its value
        "heaviside": ("ok", "none"),
        "nn.functional.adaptive_avg_pool1d": ("refused", "none"),
        "nn.functional.gelu": ("ok", "wrong"),
        "tan": ("refused", "none"),
    }
    assert rows["heaviside"]["fell_back"]
    assert not rows["add"]["fell_back"]


def rows(**statuses):
    row = {"gradient": "ok", "samples": 3, "error": 1e-7, "message": "", "fell_back": False, "known": False}
    return {name: row | {"forward": status} for name, status in statuses.items()}


def test_a_run_goes_on_where_it_was_and_compares(monkeypatch, tmp_path):
    """The database is replaced by four names, and the child by one that dies of the third."""
    asked = []

    def ask(job, take, **_):
        asked.append(list(job["operators"]))
        for name in job["operators"]:
            take({"start": name})
            if name == "c":
                return ChildExit("aborted", "SIGABRT: no")
            take({"name": name, **rows(x="wrong" if name == "b" else "ok")["x"]})
        return ChildExit("done", "")

    monkeypatch.setattr(matrix, "run_in_child", ask)
    monkeypatch.setattr("transit_cli.operators.op_database.database.operators", lambda: list("abcd"))
    monkeypatch.setattr("transit_cli.operators.op_database.database.key_of", str)
    settings = OperatorDatabaseSettings(device="cpu", out=tmp_path / "m")
    first = matrix.check_op_db(settings)
    assert first.exit_code == 1
    assert asked == [["a", "b", "c", "d"], ["d"]]
    assert first.data["counts"] == {"ok": 2, "wrong": 1, "aborted": 1}
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"matrix.json", "matrix.md", "matrix.html"}

    other = json.loads((tmp_path / "m" / "matrix.json").read_text())
    del other["operators"]["d"]
    (tmp_path / "m" / "matrix.json").write_text(json.dumps(other))
    other["operators"] |= rows(b="ok")
    (tmp_path / "other.json").write_text(json.dumps(other))
    again = matrix.check_op_db(settings.replace(compare=tmp_path / "other.json"))
    assert asked[2:] == [["d"]]
    assert again.data["changes"] == [
        {"operator": "b", "before": "ok", "now": "wrong"},
        {"operator": "d", "before": "absent", "now": "ok"},
    ]


class Entry:
    """An entry of the database, as far as upstream's marks need it."""

    def __init__(self, name, variant=""):
        self.name, self.variant_test_name, self.decorators = name, variant, ("something of its own",)


def upstream(forward, gradient):
    """A `common_mps` that marks as the real one does: by name and variant, without a separator, for types or all."""
    from types import SimpleNamespace

    def modifier(planted):
        def mark(entries):
            for entry in entries:
                dtypes = planted.get(entry.name + entry.variant_test_name, "absent")
                entry.decorators += (SimpleNamespace(dtypes=[torch.float64]),)  # every entry, as there
                if dtypes != "absent":
                    entry.decorators += (SimpleNamespace(dtypes=dtypes),)
            return entries

        return mark

    return SimpleNamespace(mps_ops_modifier=modifier(forward), mps_ops_grad_modifier=modifier(gradient))


def test_expected_failures_count_for_their_type_and_their_full_name(monkeypatch):
    planted = upstream(
        {"conv": [torch.int64, torch.float16], "nn.functional.conv": None, "normnuc": [torch.float32]},
        {"linalg.norm": [torch.float32]},
    )
    monkeypatch.setattr(torch.testing._internal, "common_mps", planted, raising=False)
    monkeypatch.setitem(sys.modules, "torch.testing._internal.common_mps", planted)
    names = ("conv", "nn.functional.conv", "nn.functional.pad", "norm", "linalg.norm", "nn")
    entries = [*map(Entry, names), Entry("norm", "nuc")]
    known = upstream_failures.known_failures(entries)
    assert known["forward"] == {"nn.functional.conv", "norm.nuc"}
    assert known["gradient"] == {"nn.functional.conv", "norm.nuc", "linalg.norm"}
    assert upstream_failures.known_failures(entries, torch.float16)["forward"] == {"conv", "nn.functional.conv"}
    assert all(entry.decorators == ("something of its own",) for entry in entries)  # they were copied


def test_what_upstream_knows_is_asked_of_the_installed_torch(asked):
    forward, gradient = set(asked["known"]["forward"]), set(asked["known"]["gradient"])
    assert len(forward) > 20
    assert forward < gradient
    assert not {"add", "nn.functional.gelu", "mm", "nn.functional.conv1d"} & forward
    assert any(name.startswith(("nn.functional.", "linalg.", "special.")) for name in forward)


def test_a_gradient_that_fails_is_known_only_if_gradients_are_expected_to(monkeypatch, tmp_path):
    def ask(job, take, **_):
        for name in job["operators"]:
            row = rows(x="wrong" if name == "a" else "ok")["x"] | {"gradient": "ok" if name == "a" else "wrong"}
            take({"start": name})
            take({"name": name, **row})
        return ChildExit("done", "")

    class Device:
        kind, facts = "mps", type("Facts", (), {"name": "planted"})

    known = {"forward": frozenset("b"), "gradient": frozenset("ab")}
    monkeypatch.setattr(matrix, "select", lambda name: Device)
    monkeypatch.setattr(matrix, "run_in_child", ask)
    monkeypatch.setattr("transit_cli.operators.op_database.database.operators", lambda: list("abc"))
    monkeypatch.setattr("transit_cli.operators.op_database.database.key_of", str)
    monkeypatch.setattr("transit_cli.operators.op_database.upstream.known_failures", lambda entries: known)
    found = matrix.check_op_db(OperatorDatabaseSettings(device="mps")).data["operators"]
    assert {name: row["known"] for name, row in found.items()} == {"a": False, "b": True, "c": False}


def test_a_matrix_that_is_none_is_refused(forked_transit, tmp_path):
    (tmp_path / "no.json").write_text("{}")
    done = forked_transit("fallback-test", "all-ops", "--compare", tmp_path / "no.json")
    assert done.returncode == 4
    assert "has no 'key'" in done.stderr


@pytest.mark.torture
def test_the_whole_database_on_the_cpu(forked_transit, tmp_path):
    done = forked_transit("fallback-test", "all-ops", "--device", "cpu", "--out", tmp_path, "--json", timeout=600)
    data = json.loads(done.stdout)["data"]
    assert data["samples"] > 3000
    assert data["counts"].get("wrong", 0) == 0
