"""`transit doctor` as its users meet it: a process, its output, its exit code; with torch whole, missing and broken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from transit_cli.config import settings_of
from transit_cli.device import environment
from transit_cli.doctor import summary
from transit_cli.doctor.check import CheckResult
from transit_cli.doctor.check_runner import CheckRunner
from transit_cli.doctor.diagnosis import IDS, diagnose, select_checks
from transit_cli.doctor.settings import DoctorSettings
from transit_cli.results import ExitCode, TransitError

#: A row of each cost: these need no torch.
LIGHT = "python,system,chip,memory,swap,workers,start-method,watermark"


@pytest.fixture(scope="module")
def whole():
    """One full run on this machine, as JSON: every test here that needs torch reads this one."""
    command = [sys.executable, "-m", "transit_cli", "doctor", "--json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTORCH_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=clean)
    return done, json.loads(done.stdout)


def test_every_row_is_there_and_a_machine_without_a_gpu_is_ready(whole):
    done, document = whole
    rows = {row["id"]: row for row in document["data"]["rows"]}
    assert tuple(rows) == IDS
    assert done.returncode == 0, document["verdict"]
    assert document["verdict"].startswith("ready")
    assert rows["torch"]["status"] == "ok"
    for row_id in ("cpu", "cpu-step", "cpu-strided", "cpu-fp16", "cpu-bf16"):
        assert rows[row_id]["status"] == "ok", rows[row_id]
    assert "samples/s" in rows["cpu-step"]["found"]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has the device")
def test_without_mps_its_rows_are_skipped_with_the_reason(whole):
    skipped = [row for row in whole[1]["data"]["rows"] if row["id"].split("-")[0] == "mps"]
    assert len(skipped) == 6
    assert all(row["status"] == "skip" and "Apple" in row["found"] for row in skipped)


def test_every_row_that_is_not_well_says_why_and_what_to_do(whole):
    for row in whole[1]["data"]["rows"]:
        assert set(row) == {"id", "status", "found", "wanted", "why", "fix"}
        assert row["found"]
        if row["status"] in {"warn", "fail"}:
            assert row["why"]


NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            sys.stderr.write("torch was asked for\\n")
        return None
sys.meta_path.insert(0, Refuse())
"""


def test_rows_without_torch_import_no_torch(transit, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    done = transit("doctor", "--only", LIGHT, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "torch was asked for" not in done.stderr
    assert done.stdout.splitlines()[0].split() == ["check", "status", "found"]


@pytest.mark.parametrize(
    ("module", "found"),
    [
        pytest.param("raise ModuleNotFoundError('no', name='torch')", "torch is not installed", id="missing"),
        pytest.param(
            "raise OSError('libtorch_cpu.so: cannot open')", "torch is broken: OSError: libtorch", id="broken"
        ),
        pytest.param("import no_such_package", "torch lacks the package 'no_such_package'", id="dependency"),
        pytest.param("", "torch is broken: AttributeError", id="half-installed"),
        pytest.param("import os; os.abort()", "the process died of SIGABRT", id="dies"),
        pytest.param("import sys; sys.exit(3)", "the process ended with code 3", id="exits"),
        pytest.param("__version__ = '2.4.0'\ndef zeros(n): pass", "2.4.0", id="old"),
        pytest.param(
            "import sys; sys.stderr.write('x' * 10**6); raise OSError('full')", "OSError: full", id="talkative"
        ),
    ],
)
def test_torch_missing_or_broken_is_one_row_and_the_rest_goes_on(transit, tmp_path, module, found):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(module)
    done = transit("doctor", "--json", "--only", "python,torch,cpu", env={"PYTHONPATH": str(tmp_path)})
    document = json.loads(done.stdout)
    rows = {row["id"]: row for row in document["data"]["rows"]}
    assert done.returncode == ExitCode.NEGATIVE
    assert rows["torch"]["status"] == "fail"
    assert found in rows["torch"]["found"]
    assert "pip install" in rows["torch"]["fix"]
    assert rows["python"]["status"] == "ok"
    assert {rows[row_id]["status"] for row_id in rows if row_id.startswith("cpu")} == {"skip"}
    assert rows["torch"]["fix"] in document["verdict"]


def test_a_torch_that_hangs_is_given_up(monkeypatch, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with CheckRunner("auto", ["torch", "cpu-step"], timeout=2) as runner:
        rows = runner.rows(lambda row_id: None)
    assert [(row.id, row.status) for row in rows] == [("torch", "fail"), ("cpu-step", "skip")]
    assert "no answer" in rows[0].found


def test_a_torch_py_in_the_current_folder_is_not_torch(transit, tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('not me')")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("transit")), "doctor", "--only", "torch"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_wrong_row_is_a_usage_error_with_a_guess():
    with pytest.raises(TransitError, match="swpa") as caught:
        select_checks(["swpa"])
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.wanted == "swap?"


def test_options_that_leave_no_row_are_a_usage_error():
    with pytest.raises(TransitError, match="select no check") as caught:
        diagnose(DoctorSettings(only=("mps",), device="cpu"))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_device_names_its_parts():
    assert select_checks(["cpu"]) == ("cpu", "cpu-step", "cpu-strided", "cpu-fp16", "cpu-bf16")
    assert select_checks(["cpu-fp16", "python"]) == ("python", "cpu-fp16")


def test_a_device_asked_for_and_absent_fails(transit):
    absent = "mps" if sys.platform == "linux" else "cuda"
    done = transit("doctor", "--only", f"{absent},cpu", "--device", absent, "--json")
    rows = json.loads(done.stdout)["data"]["rows"]
    assert done.returncode == ExitCode.NEGATIVE
    assert [row["status"] for row in rows][:2] == ["fail", "skip"]
    assert not [row for row in rows if row["id"].startswith("cpu")]


def test_strict_makes_warnings_count(transit):
    env = {environment.HIGH_WATERMARK: "0.0"}
    plain = transit("doctor", "--only", "watermark", env=env)
    strict = transit("doctor", "--only", "watermark", "--strict", env=env)
    assert (plain.returncode, strict.returncode) == (0, 1)
    assert plain.stdout.splitlines()[-1].endswith(f"Type: unset {environment.HIGH_WATERMARK}")


def test_fix_prints_a_snippet_that_a_shell_takes(transit):
    env = {environment.HIGH_WATERMARK: "0.0", environment.FALLBACK: "true"}
    done = transit("doctor", "--only", "watermark,fallback", "--fix", env=env)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"export {environment.FALLBACK}=1",
        f"unset {environment.HIGH_WATERMARK}",
    ]
    check = f"{done.stdout}\ntest -z ${environment.HIGH_WATERMARK} && test ${environment.FALLBACK} = 1"
    assert subprocess.run(["sh", "-c", check], env=os.environ | env, timeout=10).returncode == 0


def test_the_report_is_markdown(transit, tmp_path):
    done = transit("doctor", "--only", "python,chip", "--out", tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert done.returncode == 0
    assert "| check | status | found | wanted |" in text
    assert f"| python | ok | {sys.version.split()[0]}" in text


def test_a_report_that_cannot_be_written_is_a_warning_and_the_answer_is_shown(transit, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = transit("doctor", "--only", "python", "--out", tmp_path / "file" / "report.md")
    assert "report.md" in done.stderr
    assert "Traceback" not in done.stderr
    assert "python" in done.stdout


def test_a_check_that_breaks_is_a_row(monkeypatch):
    from transit_cli.doctor import diagnosis

    def broken(machine):
        raise KeyError("planted")

    monkeypatch.setitem(diagnosis.MACHINE_CHECKS, "chip", broken)
    monkeypatch.setattr(diagnosis.machine, "read", lambda: 1 / 0)
    rows = {row.id: row for row in diagnose(DoctorSettings(only=("chip", "python", "disk")))}
    assert rows["chip"].status == "warn"
    assert "planted" in rows["chip"].found
    assert rows["disk"].status == "ok"


def test_ctrl_c_ends_the_doctor_and_its_child(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    doctor = subprocess.Popen(
        [sys.executable, "-m", "transit_cli", "doctor", "--only", "torch"], env=env, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    doctor.send_signal(signal.SIGINT)
    _, errors = doctor.communicate(timeout=30)
    assert doctor.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def row(row_id, status, found="found", why="", fix=""):
    return CheckResult(row_id, status, found, "", why, fix)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("a", "ok")], "ready. Type: transit train"),
        ([row("a", "ok"), row("b", "warn", fix="x")], "ready, with 1 thing to know. Type: x"),
        ([row("a", "warn", fix="x"), row("b", "warn")], "ready, with 2 things to know. Type: x"),
        ([row("a", "warn", fix="x"), row("b", "fail", fix="y")], "not ready: 1 check failed. Type: y"),
        ([row("a", "fail"), row("b", "fail")], "not ready: 2 checks failed."),
        ([row("a", "skip")], "ready. Type: transit train"),
    ],
)
def test_the_verdict_in_words(rows, words):
    assert summary.verdict(rows, everything=True) == words


def test_rows_skipped_for_one_reason_share_a_line():
    rows = [row("mps", "skip"), row("mps-step", "skip"), row("x", "ok"), row("y", "skip", "q"), row("z", "skip", "q")]
    assert [line[0] for line in summary.table(rows).rows] == ["mps", "x", "y +1"]


def test_every_option_has_a_help_text():
    assert all(setting.help for setting in settings_of(DoctorSettings))


def test_a_broken_plugin_is_named_with_its_removal(transit, tmp_path):
    information = tmp_path / "broken_thing-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-thing\nVersion: 0.1\n")
    (information / "entry_points.txt").write_text("[transit.commands]\nthing = broken_thing:app\n")
    (tmp_path / "broken_thing.py").write_text("raise RuntimeError('planted')")
    done = transit("doctor", "--only", "plugins", "--json", env={"PYTHONPATH": str(tmp_path)})
    (found,) = json.loads(done.stdout)["data"]["rows"]
    assert done.returncode == 0  # it hurts nobody else
    assert found["status"] == "warn"
    assert "thing of broken-thing" in found["found"]
    assert "planted" in found["why"]
    assert found["fix"] == "pip uninstall broken-thing"
