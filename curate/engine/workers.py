"""One function called on many things by several processes, in order: for work whose own code would keep others waiting.

Threads do for decoding, which lets go of the interpreter lock; a chain of small transforms holds on to it between them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, Final, TypeVar

from curate.engine.local import default_threads
from curate.environment import environment
from curate.errors import InputError

Given = TypeVar("Given")
Made = TypeVar("Made")

_AHEAD = 4

_ONE_THREAD_EACH: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment in which processes start that should not use all cores each."""

_work: Callable[[Any], Any]
"""In a worker process: what it does."""


def run_workers(
    work: Callable[[Given], Made], items: Iterable[Given], *, workers: int | None = None, here: bool = False
) -> Generator[Made, None, None]:
    """Call a function on every item.

    Memory stays flat: a few items for each process are under way. Closing the generator (or Ctrl-C in it) drops what is queued
    and waits only for what is being worked on; processes whose parent is killed end by themselves.

    Args:
        work: What to do; sent to each process once, so it may hold what all calls share. It must be of an importable module.
        items: What to do it on; taken from lazily.
        workers: Processes; None for one per core.
        here: Do it in this process, one after the other: starting others takes a second or two.

    Yields:
        What `work` gave, in the order of the items.

    Raises:
        InputError: A process was killed, most likely by the system for want of memory.
    """
    count = default_threads() if workers is None else max(1, workers)
    if here or count == 1:
        yield from map(work, items)
        return
    with _pool(work, count) as pool:
        source = iter(items)
        queue: deque[Future[Made]] = deque(pool.submit(_call, item) for item in islice(source, _AHEAD * count))
        while queue:
            try:
                result = queue.popleft().result()
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was killed, most likely for want of memory",
                    where=f"{count} processes",
                    remedy="run it again: it goes on where it stopped; with fewer processes if it comes again",
                ) from error
            queue.extend(pool.submit(_call, item) for item in islice(source, 1))
            yield result


@contextmanager
def _pool(work: Callable[[Any], Any], count: int) -> Generator[Executor, None, None]:
    # Spawned, for the store's own threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(work,))
    try:
        with environment(_ONE_THREAD_EACH):
            yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = work


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _call(item: Any) -> Any:
    return _work(item)
