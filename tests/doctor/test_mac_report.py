"""`transit doctor --mac-report`: with sections that pass, fail, hang and are interrupted; nothing personal in the file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doctor.test_machines import replay
from transit_cli.device.machine import Machine
from transit_cli.doctor.mac_report import markdown, report, sections
from transit_cli.doctor.mac_report.redact import Redactor
from transit_cli.doctor.mac_report.sections import SECTIONS, Outcome, Section
from transit_cli.results import ExitCode, TransitError

FIGURE = {
    "network": "two-branch", "pass": "train", "batch_size": 64, "execution": "metal", "samples_per_second": 20000.0,
    "spread": 0.02, "bytes_share": 0.5, "flops_share": 0.1, "joules": 0.032,
}  # fmt: skip
OPERATOR = {
    "operator": "linear", "phase": "forward", "shapes": "4x8", "status": "wrong", "error": 0.5, "bound": 3e-5,
    "message": "", "variant": "strided",
}  # fmt: skip
DATA = {
    "doctor": {"rows": [{"id": "chip", "status": "ok", "found": "Apple M4 | 10", "wanted": ""}]},
    "fp32": {
        "network": "two-branch", "batch_size": 16, "operators": [OPERATOR],
        "whole_step": {"fp32": {"steps": 20, "losses": [0.5], "cpu_losses": [0.5], "worst": 0.1}},
    },
    "metal": {
        "batch_size": 64, "steps": 35,
        "executions": {
            "eager": {"milliseconds": 7.0, "samples_per_second": 9000.0, "last_loss": 0.6, "gradient_difference": 0.0, "weight_difference": 0.0},
            "metal": {"milliseconds": 3.0, "samples_per_second": 21000.0, "last_loss": 0.6, "gradient_difference": 1e-6, "weight_difference": 1e-5},
            "metal-matrices": {"refused": "no kernel compiles"},
        },
    },
    "bench": {
        "figures": [FIGURE], "peak_copy_bytes_per_second": 1e11, "peak_matmul_flops_per_second": 3e12,
        "energy": "zeus", "busy_percent": 3.0,
    },
}  # fmt: skip


def outcome(section, seconds):
    return Outcome(section, "ok", 1.0, "fine", DATA.get(section.id, {}))


def test_the_report_of_a_recorded_mac(tmp_path):
    path = tmp_path / "report.md"
    result = report.report(path, run=outcome, facts=replay("m4_16gb"))
    text = path.read_text()
    assert result.exit_code == ExitCode.DONE
    assert result.verdict.startswith(f"{path}: 6 of 6 sections")
    assert text.startswith("# transit ")
    assert "on Apple M4, macOS 15.1" in text.splitlines()[0]
    for line in (
        "| CPU cores | 4 + 6 (fast + slow) |",
        "| system | Darwin 15.1 24B83 |",
        "| chip | ok | Apple M4 \\| 10 |  |",
        "| linear | forward | 4x8 | wrong | 5.0e-01 | 3.0e-05 | strided |",
        "20 steps in fp32: loss 0.50000, on the CPU 0.50000; 0.10 of the allowed difference.",
        "| metal | 3 | 21,000 | 0.60000 | 1.0e-06 | 1.0e-05 |",
        "| metal-matrices | not used: no kernel compiles |",
        "| two-branch | train | 64 | metal | 20,000 | 2% | 50% | 10% | 0.5 |",
    ):
        assert line in text, line
    assert "Simulated" not in text
    assert markdown.SIMULATED in markdown.page(Machine("Linux", "6.1"), [])


def test_one_failing_section_does_not_end_the_others(tmp_path):
    def run(section, seconds):
        if section.id == "fp32":
            raise RuntimeError("planted")
        if section.id == "metal":
            return Outcome(section, "ok", 1.0, "fine", {"executions": "nonsense"})
        return outcome(section, seconds)

    result = report.report(tmp_path / "report.md", run=run, facts=replay("m4_16gb"))
    text = (tmp_path / "report.md").read_text()
    assert result.exit_code == ExitCode.NEGATIVE
    assert [one["status"] for one in result.data["sections"]] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert "| failed | 0 s | RuntimeError: planted |" in text
    assert "(its data cannot be shown: " in text
    assert "| two-branch | train | 64 |" in text


def test_a_report_takes_five_minutes_at_most(tmp_path, monkeypatch):
    clock = [0.0]
    given = []
    monkeypatch.setattr(report.time, "monotonic", lambda: clock[0])

    def run(section, seconds):
        given.append(seconds)
        clock[0] += seconds
        return Outcome(section, "out of time", seconds, "slow")

    result = report.report(tmp_path / "report.md", run=run, facts=replay("m4_16gb"))
    assert clock[0] <= report.SECONDS
    assert given[0] == SECTIONS[0].seconds
    assert "not begun" in result.data["sections"][-1]["verdict"]


def script(tmp_path, name, source):
    (tmp_path / f"{name}.py").write_text(source)
    return Section(name, name, 60, (name,))


def test_how_a_section_can_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    answer = "import json, sys; print(json.dumps({})); sys.exit({})".format
    good = answer('{"data": {"a": 1}, "verdict": "yes"}', 0)
    ends = {
        "good": (good, "ok", "yes"),
        "negative": (good.replace("exit(0)", "exit(1)"), "problems", "yes"),
        "refused": (
            answer('{"data": None, "verdict": "", "errors": [{"found": "no device"}]}', 5),
            "failed",
            "no device",
        ),
        "abort": ("import os, sys; sys.stderr.write('LLVM ERROR'); os.abort()", "failed", "died of SIGABRT"),
        "chatter": ("print('hello')", "failed", "ended with code 0"),
        "hang": ("import time; time.sleep(60)", "out of time", "ended after 1 s"),
    }
    for name, (source, status, words) in ends.items():
        found = sections.run(script(tmp_path, f"section_{name}", source), 1 if name == "hang" else 30)
        assert (found.status, words in found.verdict) == (status, True), found


def test_ctrl_c_writes_what_there_is(tmp_path):
    (tmp_path / "section_slow.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    (tmp_path / "main.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "from transit_cli.device.machine import Machine\n"
        "from transit_cli.doctor.mac_report import report, sections\n"
        "from transit_cli.doctor.mac_report.sections import Section, Outcome\n"
        "parts = (Section('first', 'First', 60, ()), Section('slow', 'Slow', 60, ('section_slow',)))\n"
        "run = lambda part, left: Outcome(part, 'ok', 1.0, 'well') if part.id == 'first' else sections.run(part, left)\n"
        "report.report(Path(sys.argv[1]), parts, run, Machine('Darwin', '15.1', chip='Apple M4'))\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "report.md")], env=env, stderr=subprocess.PIPE
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
        assert child.poll() is None, child.stderr.read()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    text = (tmp_path / "report.md").read_text()
    assert "| First | ok | 1 s | well |" in text
    assert "| Slow | interrupted | 0 s |" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_nothing_personal():
    redactor = Redactor(("annie-jump", "annie", "Mount-Wilson.local", "Mount-Wilson"))
    text = redactor.text(
        "annie-jump on mount-wilson.local: /Users/annie/runs/a.fits: no file, ~/data/secret (C02XG0FDJG5J) "
        "annie@example.org; File '/opt/homebrew/lib/python3.12/site-packages/torch/x.py'; 12/24 GB/s, samples/s, "
        "Apple M4, 24B83, aten::linear, https://github.com/pytorch/pytorch/issues/96225"
    )
    for personal in ("annie", "ilson", "secret", "a.fits", "C02X", "example.org", "homebrew"):
        assert personal not in text, text
    for kept in ("12/24 GB/s", "samples/s", "Apple M4", "24B83", "aten::linear", "pytorch/issues/96225"):
        assert kept in text, text
    assert redactor.values({"annie": ["by annie", 1]}) == {"annie": ["by [name]", 1]}


def test_what_sections_say_is_cleaned_too(tmp_path):
    home = Path.home()

    def run(section, seconds):
        return Outcome(section, "failed", 1.0, f"{home}/data/x.fits is not there; {Path.home().name}")

    result = report.report(tmp_path / "report.md", run=run, facts=replay("m4_16gb"))
    written = (tmp_path / "report.md").read_text() + json.dumps(result.data["sections"])
    assert "x.fits" not in written
    assert f"{home}/" not in written


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac is what is wanted")
def test_elsewhere_it_is_refused(forked_transit, tmp_path):
    done = forked_transit("doctor", "--mac-report", tmp_path / "report.md", "--json")
    (error,) = json.loads(done.stdout)["errors"]
    assert done.returncode == ExitCode.MACHINE
    assert (error["found"], error["wanted"]) == (
        "this is Linux, and the report is about MPS",
        "a Mac with Apple silicon",
    )
    assert not (tmp_path / "report.md").exists()
    with pytest.raises(TransitError, match="Intel"):
        report.report(tmp_path / "report.md", run=outcome, facts=replay("intel_mac"))


def test_the_words_for_metal_kernels():
    from transit_cli.doctor.mac_report.metal_process import document

    def executions(difference):
        close = {"milliseconds": 4.0, "gradient_difference": 0.0, "weight_difference": 0.0}
        fast = {"milliseconds": 2.0, "gradient_difference": difference, "weight_difference": 0.0}
        return {"executions": {"eager": close, "metal": fast, "metal-matrices": {"refused": "no MPS"}}}

    good, bad = document(executions(1e-6)), document(executions(0.5))
    assert good["verdict"] == "equal: metal 2.00 times eager's speed; metal-matrices not used: no MPS"
    assert (good["equal"], bad["equal"]) == (True, False)
    assert bad["verdict"].startswith("DIFFERENT from eager: ")
    assert not document(executions(float("nan")))["equal"]


@pytest.mark.torture
def test_the_whole_report_on_the_simulated_device(mps, tmp_path):
    done = mps.transit("doctor", "--mac-report", str(tmp_path / "report.md"), timeout=580)
    text = (tmp_path / "report.md").read_text()
    assert markdown.SIMULATED in text
    assert "| Checks of the machine | ok |" in text, done.stderr
    assert "| metal |" in text
