"""Independent pieces of work: here, in processes, or on a Dask cluster. The same function, the same results."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from transit_cli.device.allocator import keep_freed_memory
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from concurrent.futures import Future

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")

#: Tasks that wait per worker: enough that none idles, few enough that memory does not grow with the number of tasks.
AHEAD = 4
#: Seconds of work that are worth a second process, which takes about one to start.
WORTHWHILE = 3.0


def each(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], workers: int = 0, scheduler: str = ""
) -> Iterator[tuple[_Task, _Done]]:
    """Each task with its result, in the order in which they are done.

    Args:
        function: importable; it depends on its task alone.
        tasks: can be pickled.
        workers: processes, this one among them; 0 for one per core, once it is seen that there is work enough for them.
        scheduler: the address of a Dask scheduler, as in "tcp://host:8786"; "" for processes here.
    """
    if scheduler:
        yield from _on_cluster(function, tasks, scheduler)
        return
    keep_freed_memory()
    others = (workers or _cores()) - 1
    begin = 0.0
    for done, task in enumerate(tasks):
        left = len(tasks) - done
        pays = workers > 1 or (done > 1 and (time.monotonic() - begin) / (done - 1) * left > WORTHWHILE)
        if pays and min(others, left - 1) > 0:
            yield from _in_processes(function, tasks[done:], min(others, left - 1))
            return
        yield task, function(task)
        begin = begin or time.monotonic()  # the first imports what all need


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_processes(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], others: int
) -> Iterator[tuple[_Task, _Done]]:
    """`each` by other processes and by this one, which does not wait for them to start."""
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")  # the same on every system, and no thread's lock is copied
    waiting: dict[Future[_Done], _Task] = {}
    rest = iter(tasks)
    pool = ProcessPoolExecutor(others, context, initializer=_begin, initargs=(os.getpid(),))
    try:
        while True:
            for task in islice(rest, AHEAD * others - len(waiting)):
                waiting[pool.submit(function, task)] = task
            mine = next(((task,) for task in rest), ()) or _taken_back(waiting)
            for task in mine:
                yield task, function(task)
            if not waiting and not mine:
                return
            for future in wait(waiting, timeout=0 if mine else None, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise TransitError(
            "a worker process was killed or ended by itself",
            wanted="memory for one light curve per worker",
            fix="run the same command again with --workers 1",
            exit_code=ExitCode.MACHINE,
            code="worker-died",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _taken_back(waiting: dict[Future[_Done], _Task]) -> tuple[_Task, ...]:
    """The task that was handed out last and has not been begun; none if all have."""
    for future in reversed(waiting):
        if future.cancel():
            return (waiting.pop(future),)
    return ()


def _begin(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it is gone, however it went."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], address: str
) -> Iterator[tuple[_Task, _Done]]:
    import distributed

    try:
        client: Any = distributed.Client(address, timeout=5)
    except (OSError, TimeoutError, ValueError) as error:
        raise TransitError(
            f"no Dask scheduler answers at {address}: {error}",
            wanted="the address that `dask scheduler` prints",
            fix="start one, or leave out --scheduler to work on this machine",
            exit_code=ExitCode.MACHINE,
            code="scheduler-missing",
        ) from None
    with client:
        rest = iter(tasks)
        waiting: dict[str, _Task] = {}
        done = distributed.as_completed()

        def submit() -> None:
            task = next(rest, None)
            if task is not None:
                future = client.submit(function, task, pure=False, retries=3)
                waiting[future.key] = task
                done.add(future)

        threads = sum(client.nthreads().values()) or 1
        for _ in range(AHEAD * threads):
            submit()
        for future in done:
            result = future.result()
            yield waiting.pop(future.key), result
            submit()
