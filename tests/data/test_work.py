"""`parallel.each`: the same results for any number of processes, which are started only for enough work."""

import multiprocessing
import os
import sys
import time

import pytest

from transit_cli import parallel
from transit_cli.device import host
from transit_cli.device.host import usable_cores
from transit_cli.results import TransitError


def where(task):
    """A square, and the process that computed it."""
    time.sleep(0.002)
    return task * task, os.getpid()


def large(task):
    """As `where`, for half a second."""
    time.sleep(0.5)
    return where(task)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_each_task_is_done_once(workers, count):
    done = dict(parallel.each(where, range(count), workers))
    assert {task: square for task, (square, _) in done.items()} == {task: task * task for task in range(count)}
    assert multiprocessing.active_children() == []


def test_few_tasks_start_no_process():
    assert {process for _, (_, process) in parallel.each(where, range(50))} == {os.getpid()}


@pytest.mark.skipif(usable_cores() < 2, reason="one core")
def test_much_work_is_shared_once_that_is_seen():
    done = list(parallel.each(large, range(16)))
    processes = {process for _, (_, process) in done}
    assert 1 < len(processes) <= usable_cores()
    assert done[0][1][1] == os.getpid()  # the first shows how long they take


def test_a_containers_cpu_quota_limits_the_processes(monkeypatch):
    """Affinity shows all cores of the host; the quota of Kubernetes or Slurm cgroups is lower."""
    monkeypatch.setattr(host.Container, "cores", lambda _: 1.0)
    host.usable_cores.cache_clear()
    try:
        done = list(parallel.each(large, range(10)))
    finally:
        monkeypatch.undo()
        host.usable_cores.cache_clear()
    assert {process for _, (_, process) in done} == {os.getpid()}


def failing(task):
    """As `where`, but for one task."""
    if task == 7:
        raise ValueError("seven")
    return where(task)


def deadly(task):
    """As `where`, with an answer that fills the pipe; one task ends its process in the middle of its answer."""
    if task == 5 and multiprocessing.parent_process():
        connection = sys._getframe(1).f_locals["connection"]
        os.write(connection.fileno(), b"\x00\x00\x10\x00half")
        os._exit(1)
    return where(task), bytes(1_000_000)


class Unreadable:
    """What is sent, and cannot be received."""

    def __reduce__(self):
        return int, ("no number",)


def unreadable(task):
    """As `where`, with an answer that the parent cannot read."""
    return Unreadable() if task == 5 and multiprocessing.parent_process() else where(task)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_answer_that_cannot_be_read_is_not_waited_for():
    with pytest.raises(TransitError, match="was killed or exited"):
        list(parallel.each(unreadable, range(100), workers=3))
    assert multiprocessing.active_children() == []


def test_an_error_comes_through():
    with pytest.raises(ValueError, match="seven"):
        list(parallel.each(failing, range(100), workers=3))
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_while_it_answers_is_noticed():
    with pytest.raises(TransitError, match="was killed"):
        list(parallel.each(deadly, range(100), workers=3))
    assert multiprocessing.active_children() == []


def echoing(task):
    """Its task, which is as large as its answer."""
    return task


def test_tasks_and_answers_larger_than_any_pipe_do_not_wait_for_each_other():
    tasks = [bytes([number]) * 3_000_000 for number in range(24)]
    done = [answer for _, answer in parallel.each(echoing, tasks, workers=3)]
    assert sorted(done) == tasks
