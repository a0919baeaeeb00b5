"""Child processes: what may become of one, and what the parent learns of it."""

import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from transit_cli.utils.isolation import Child, ChildExit, run_child

HANDLER = """
import os, signal, subprocess, sys, time
{top}
from transit_cli.utils import isolation

def handler(job, emit):
{body}

if __name__ == "__main__":
    isolation.serve(handler)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module whose handler has this body; its name, for a child to run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]))

    def write(body, top=""):
        text = HANDLER.format(top=top, body=textwrap.indent(textwrap.dedent(body).strip(), "    "))
        (tmp_path / "child_under_test.py").write_text(text)
        return "child_under_test"

    return write


def run(module, job=None, **options):
    events = []
    return run_child(module, job or {}, events.append, **options), events


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_job_is_answered_by_events(module):
    end, events = run(module("emit({'twice': 2 * job['value']}); emit({'text': 'ä\\n'})"), {"value": 21})
    assert end == ChildExit("done")
    assert events == [{"twice": 42}, {"text": "ä\n"}]


def test_a_child_takes_several_jobs_and_keeps_its_state(module):
    with Child(module("emit({'sum': total.append(job['n']) or sum(total)})", top="total = []")) as child:
        events = []
        ends = [child.run({"n": n}, events.append).kind for n in (1, 2, 3)]
    assert ends == ["done"] * 3
    assert [event["sum"] for event in events] == [1, 3, 6]
    assert gone(child.pid)


def test_prints_do_not_mix_with_events(module):
    body = "print('{\"not\": \"an event\"}', flush=True); os.system('echo from a shell'); emit({'answer': 1})"
    end, events = run(module(body, top="print('half a line', end='', flush=True)"))
    assert events == [{"answer": 1}]
    assert end.kind == "done"
    assert "not" in end.stderr
    assert "from a shell" in end.stderr


def test_an_exception_is_told_by_its_last_line(module):
    end, events = run(module("emit({'first': 1}); raise ValueError('expected 4 channels')"))
    assert (end.kind, end.message, end.returncode) == ("failed", "ValueError: expected 4 channels", 1)
    assert "Traceback" in end.stderr
    assert events == [{"first": 1}]


@pytest.mark.parametrize("name", ["SIGABRT", "SIGKILL", "SIGSEGV"])
def test_a_crash_is_told_by_its_signal(module, name):
    body = f"os.write(2, b'last words\\n\\n'); emit({{'first': 1}}); os.kill(os.getpid(), signal.{name})"
    end, events = run(module(body))
    assert (end.kind, end.message) == ("aborted", f"{name}: last words")
    assert end.returncode == -getattr(signal, name)
    assert events == [{"first": 1}]


@pytest.mark.parametrize("body", ["os._exit(3)", "sys.exit(3)"])
def test_a_child_that_exits_by_itself_has_failed(module, body):
    end, _ = run(module(body))
    assert (end.kind, end.returncode) == ("failed", 3)


def test_a_module_that_does_not_exist(module):
    end, events = run("no_such_module_of_transit", {"long": "x" * 10**6})  # more than a pipe holds
    assert end.kind == "failed"
    assert "No module named" in end.message
    assert events == []


def test_a_child_that_hangs_is_killed_with_its_own_children(module):
    body = "child = subprocess.Popen(['sleep', '600']); emit({'pid': child.pid}); time.sleep(600)"
    started = time.monotonic()
    end, events = run(module(body), timeout=1.0)
    assert end.kind == "hung"
    assert time.monotonic() - started < 30
    assert wait_until(lambda: gone(events[0]["pid"]))


def test_every_event_begins_the_timeout_anew(module):
    end, events = run(module("for n in range(8): emit({'n': n}); time.sleep(0.5)"), timeout=2.5)
    assert end.kind == "done"
    assert len(events) == 8


def test_the_parent_may_stop_a_child(module):
    events = []
    with Child(module("emit({'ready': True}); time.sleep(600)")) as child:
        end = child.run({}, events.append, watch=lambda: bool(events))
        assert gone(child.pid)
    assert (end.kind, end.returncode) == ("stopped", -signal.SIGKILL)


def test_a_descendant_that_holds_the_pipe_does_not_hide_a_crash(module):
    """A forked process has the pipe of the events too, so that its end is not seen when the child dies."""
    body = "pid = os.fork()\nif not pid: time.sleep(600)\nemit({'pid': pid}); os.abort()"
    end, events = run(module(body))
    assert end.message.startswith("SIGABRT")
    assert wait_until(lambda: gone(events[0]["pid"]))


def test_a_child_that_dies_after_its_answer_has_done_its_job(module):
    body = "import threading; threading.Timer(0.2, os.abort).start(); emit({'answer': 1})"
    with Child(module(body)) as child:
        events = []
        assert child.run({}, events.append).kind == "done"
        assert wait_until(lambda: gone(child.pid))
        again = child.run({}, events.append)  # and says so when it is asked again
    assert events == [{"answer": 1}]
    assert (again.kind, again.message) == ("aborted", "SIGABRT")


def test_much_output_neither_blocks_nor_gets_lost(module):
    body = """
        os.write(2, b'e' * 5_000_000)
        print('p' * 5_000_000, flush=True)
        for n in range(20_000): emit({'n': n, 'text': 'x' * 100})
        emit({'big': 'y' * 3_000_000})
    """
    end, events = run(module(body), timeout=60)
    assert end.kind == "done"
    assert [event["n"] for event in events[:-1]] == list(range(20_000))
    assert len(events[-1]["big"]) == 3_000_000
    assert len(end.stderr) >= 10_000_000


def test_an_error_in_the_parent_ends_the_child(module):
    pids = []

    def take(event):
        pids.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child(module("emit({'pid': os.getpid()}); time.sleep(600)"), {}, take)
    assert gone(pids[0])


def test_a_child_ends_with_its_parent(module, tmp_path):
    body = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"from transit_cli.utils.isolation import run_child; run_child({module(body)!r}, {{}}, print)"
    parent = psutil.Popen([sys.executable, "-c", script])
    try:
        assert wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_a_module_in_the_current_folder_is_not_imported(module, tmp_path, monkeypatch):
    folder = tmp_path / "current"
    folder.mkdir()
    for name in ("json.py", "torch.py", "transit_cli.py"):
        (folder / name).write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(folder)
    end, events = run(module("emit({'here': '' in sys.path or os.getcwd() in sys.path})"))
    assert end.kind == "done", end.stderr
    assert events == [{"here": False}]


def test_the_environment_is_the_one_given(module):
    env = dict(os.environ, TRANSIT_TEST_VALUE="7")
    _, events = run(module("emit({'value': os.environ.get('TRANSIT_TEST_VALUE')})"), env=env)
    assert events == [{"value": "7"}]
