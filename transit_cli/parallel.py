"""Map a function over independent tasks: in this process, in several, or on a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from transit_cli.device.allocator import keep_freed_memory
from transit_cli.device.host import usable_cores
from transit_cli.results import ExitCode, TransitError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")

#: Queued tasks per worker: enough to keep it busy, few enough that memory does not grow with the number of tasks.
AHEAD = 4
#: Seconds of remaining work above which more processes are started; one takes about a second to start.
WORTHWHILE = 3.0
#: Seconds between two questions for a cluster's workers, and seconds without any after which the work is given up.
LOOK_S, PATIENCE_S = 5.0, 60.0


def each(
    function: Callable[[_Task], _Done],
    tasks: Sequence[_Task],
    workers: int = 0,
    scheduler: str = "",
    *,
    busy: bool = False,
) -> Iterator[tuple[_Task, _Done]]:
    """Each task with its result, in order of completion.

    Args:
        function: importable; depends only on its task.
        tasks: picklable.
        workers: number of processes including this one; 0 for one per usable core if there is enough work.
        scheduler: address of a Dask scheduler, as in "tcp://host:8786"; "" for local processes.
        busy: this process computes something else, such as on a GPU, and takes no task once other processes do.
    """
    if scheduler:
        yield from _on_cluster(function, tasks, scheduler)
        return
    keep_freed_memory()
    others = (workers or usable_cores()) - 1
    begin = 0.0
    for done, task in enumerate(tasks):
        left = len(tasks) - done
        pays = workers > 1 or (done > 1 and (time.monotonic() - begin) / (done - 1) * left > WORTHWHILE)
        if pays and min(others, left - 1) > 0:
            yield from _in_processes(function, tasks[done:], min(others, left - 1), busy)
            return
        yield task, function(task)
        begin = begin or time.monotonic()  # the first task imports modules


def _in_processes(
    function: Callable[[_Task], _Done], tasks: Sequence[_Task], others: int, busy: bool
) -> Iterator[tuple[_Task, _Done]]:
    """`each` in worker processes and, unless it is busy, in this one, which starts immediately.

    Every worker has its own pipe. `concurrent.futures` shares one lock for results, and blocks forever if a worker is
    killed while it holds the lock.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # the same on every platform; locks of threads are not copied
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
            if rest and not busy:
                mine = rest.popleft()
                yield mine, function(mine)
            wait = busy or not rest
            while not answers.empty() or (wait and any(worker.given for worker in workers)):
                worker, answer = answers.get()
                done = _result(answer)
                yield worker.given.popleft(), done
                wait = not rest
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that answers tasks in order.

    A thread receives its answers immediately, so that sending tasks and answers never block each other.
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
        finally:  # also if an answer cannot be unpickled, so that the parent does not wait for it
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
        "a worker process was killed or exited",
        wanted="memory for one light curve per worker",
        fix="run the same command again with --workers 1",
        exit_code=ExitCode.MACHINE,
        code="worker-died",
    )


def _work(function: Callable[[Any], Any], connection: Connection) -> None:
    """Worker process: answer tasks until the pipe closes. SIGINT is handled by the parent."""
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
            fix="start one, or omit --scheduler to work on this machine",
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
        while waiting:
            _wait_for(done, client, address)
            future = next(done)
            try:
                result = future.result(timeout=PATIENCE_S)
            except TimeoutError:  # the worker that had the result has ended, and no other has made it again
                raise _cluster_lost(f"a worker of the Dask scheduler at {address} has ended") from None
            except (distributed.KilledWorker, CancelledError, OSError):
                if client.status == "running" and future.status == "error":  # the function's own, or a dead worker's
                    raise
                raise _cluster_lost(f"the Dask scheduler at {address} has ended") from None
            yield waiting.pop(future.key), result
            submit()


def _wait_for(done: Any, client: Any, address: str) -> None:
    """Wait until a task is done.

    Raises:
        TransitError: the scheduler has ended, or has had no workers for `PATIENCE_S`.
    """
    begin = looked = time.monotonic()
    while not done.has_ready():
        time.sleep(0.02)
        now = time.monotonic()
        if client.status != "running":
            raise _cluster_lost(f"the Dask scheduler at {address} has ended")
        if now - looked > LOOK_S:
            looked = now
            try:
                begin = now if client.nthreads() else begin
            except (OSError, TimeoutError, CancelledError):
                raise _cluster_lost(f"the Dask scheduler at {address} does not answer") from None
            if now - begin > PATIENCE_S:
                raise _cluster_lost(f"the Dask scheduler at {address} has had no workers for {PATIENCE_S:.0f} s")


def _cluster_lost(found: str) -> TransitError:
    return TransitError(
        found,
        wanted="a scheduler and workers that run until the work is done",
        fix="start them, then run the same command again: it resumes",
        exit_code=ExitCode.MACHINE,
        code="cluster-lost",
    )
