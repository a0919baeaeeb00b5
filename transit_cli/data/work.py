"""Independent pieces of work: here, in processes, or on a Dask cluster. The same function, the same results."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from transit_cli.results import ExitCode, TransitError

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")

#: Tasks that wait per worker: enough that none idles, few enough that memory does not grow with the number of tasks.
AHEAD = 4


def each(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], workers: int = 0, scheduler: str = ""
) -> Iterator[tuple[_Task, _Done]]:
    """Each task with its result, in the order in which they are done.

    Args:
        function: importable; it depends on its task alone.
        tasks: can be pickled.
        workers: processes; 0 for one per core, 1 for none but this one.
        scheduler: the address of a Dask scheduler, as in "tcp://host:8786"; "" for processes here.
    """
    if scheduler:
        yield from _on_cluster(function, tasks, scheduler)
        return
    count = min(workers or _cores(), len(tasks))
    if count <= 1:
        for task in tasks:
            yield task, function(task)
    else:
        yield from _in_processes(function, tasks, count)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_processes(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], count: int
) -> Iterator[tuple[_Task, _Done]]:
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")  # the same on every system, and no thread's lock is copied
    waiting: dict[Future[_Done], _Task] = {}
    rest = iter(tasks)
    pool = ProcessPoolExecutor(count, context, initializer=_end_with, initargs=(os.getpid(),))
    try:
        while True:
            for task in rest:
                waiting[pool.submit(function, task)] = task
                if len(waiting) >= AHEAD * count:
                    break
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise TransitError(
            "a worker process ended by itself, perhaps for lack of memory",
            wanted="memory for one light curve per worker",
            fix="run the same command again with --workers 1: it goes on from what is done",
            exit_code=ExitCode.MACHINE,
            code="worker-died",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it is gone, however it went."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

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
