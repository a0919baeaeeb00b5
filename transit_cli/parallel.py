"""Independent pieces of work: here, in processes, or on a Dask cluster. The same function, the same results."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
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

    Each has a pipe of its own. In `concurrent.futures` all send their results through one: who is killed while holding
    it leaves everybody waiting for ever.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # the same on every system, and no thread's lock is copied
    rest = deque(tasks)
    workers: list[_Worker] = []
    answers: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
    try:
        workers.extend(_Worker(context, function, answers) for _ in range(others))
        while rest or any(worker.given for worker in workers):
            ahead = max(1, min(AHEAD, len(rest) // (2 * others + 2)))
            for worker in workers:
                while rest and len(worker.given) < ahead:
                    worker.give(rest.popleft())
            if rest:
                mine = rest.popleft()
                yield mine, function(mine)
            while not answers.empty() or (not rest and any(worker.given for worker in workers)):
                worker, answer = answers.get()
                done = _result(answer)
                yield worker.given.popleft(), done
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that answers tasks in their order.

    A thread of this process takes the answers at once, so that two that send to each other never wait for each other.
    """

    def __init__(self, context: Any, function: Callable[[Any], Any], answers: SimpleQueue[Any]) -> None:
        self.given: deque[Any] = deque()
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_work, args=(function, there), daemon=True)
        self._process.start()
        there.close()
        self._collector = threading.Thread(target=self._collect, args=(answers,), daemon=True)
        self._collector.start()

    def give(self, task: object) -> None:
        self.given.append(task)
        try:
            self._connection.send(task)
        except OSError:
            raise _died() from None

    def _collect(self, answers: SimpleQueue[Any]) -> None:
        try:
            while True:
                answers.put((self, self._connection.recv()))
        except (EOFError, OSError):
            return
        finally:  # also where an answer cannot be read: nobody must wait for it
            answers.put((self, None))

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self._collector.join()
        self._connection.close()


def _result(answer: tuple[Any, Exception | None] | None) -> Any:
    if answer is None:
        raise _died()
    result, error = answer
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
