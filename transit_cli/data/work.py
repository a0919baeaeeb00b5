"""Independent pieces of work: here, in processes, or on a Dask cluster. The same function, the same results."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from transit_cli.device.allocator import keep_freed_memory
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

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
    """`each` by other processes and by this one, which does not wait for them to start.

    Each has a pipe of its own: one that is killed while it sends a result, which it holds everybody else's pipe for in
    `concurrent.futures`, is noticed as any other.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("spawn")  # the same on every system, and no thread's lock is copied
    rest = deque(tasks)
    given: dict[Connection, deque[_Task]] = {}
    processes = []
    try:
        for _ in range(others):
            here, there = context.Pipe()
            processes.append(context.Process(target=_work, args=(function, there), daemon=True))
            processes[-1].start()
            there.close()
            given[here] = deque()
        while rest or any(given.values()):
            ahead = max(1, min(AHEAD, len(rest) // (2 * others + 2)))
            for connection, theirs in given.items():
                while rest and len(theirs) < ahead:
                    theirs.append(rest.popleft())
                    _send(connection, theirs[-1])
            if rest:
                mine = rest.popleft()
                yield mine, function(mine)
            ready = wait([one for one, theirs in given.items() if theirs], timeout=0 if rest else None)
            for connection in (one for one in given if one in ready):
                yield given[connection].popleft(), _receive(connection)
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for connection in given:
            connection.close()


def _send(connection: Connection, task: object) -> None:
    try:
        connection.send(task)
    except OSError:
        raise _died() from None


def _receive(connection: Connection) -> Any:
    try:
        result, error = connection.recv()
    except (EOFError, OSError):
        raise _died() from None
    if error:
        raise error
    return result


def _died() -> TransitError:
    return TransitError(
        "a worker process was killed or ended by itself",
        wanted="memory for one light curve per worker",
        fix="run the same command again with --workers 1",
        exit_code=ExitCode.MACHINE,
        code="worker-died",
    )


def _work(function: Callable[[Any], Any], connection: Connection) -> None:
    """In a worker: answer tasks until the parent is gone, however it went. Ctrl-C is for the parent."""
    import signal
    import traceback

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = function(task), None
        except Exception as error:  # noqa: BLE001 - the parent raises it
            error.add_note(traceback.format_exc())
            answer = None, error
        try:
            connection.send(answer)
        except OSError:
            return


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
