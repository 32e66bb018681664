"""One pure function called on many jobs, by whatever engine is in use: in threads here, or on the machines of a cluster.

For work that is not a pass over images, such as comparing blocks of vectors. Jobs name the large things they need by number,
so that a machine is sent only what its jobs look at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from threadpoolctl import threadpool_limits

from curate.engine.local import default_threads

Made = TypeVar("Made")

_AHEAD: Final = 2


@dataclass(frozen=True)
class Job:
    """One call: `work(*(parts[number] for number in needs), *arguments)`.

    Attributes:
        needs: Numbers of the parts that it reads.
        arguments: What else it is given; small.
    """

    needs: tuple[int, ...] = ()
    arguments: tuple[Any, ...] = ()


def map_jobs_local(
    work: Callable[..., Made], jobs: Iterable[Job], parts: Sequence[Any] = (), *, threads: int | None = None
) -> Generator[Made, None, None]:
    """Call a function for each job, in threads: for work that lets go of the interpreter lock, as matrix products do.

    Args:
        work: What to do. It has no side effects and changes no part: on a cluster it may be called twice for a job, and parts
            are read-only. It is of an importable module.
        jobs: Taken from lazily; each is at least some tenths of a second of work, or sending it costs more than doing it.
        parts: What jobs read: arrays, or what can be pickled.
        threads: How many; None for one per core. BLAS has one thread in each.

    Yields:
        What `work` gave, in the order of the jobs. Few results are made ahead of the one that is asked for.
    """
    count = default_threads() if threads is None else max(1, threads)
    source = iter(jobs)
    pool = ThreadPoolExecutor(count, thread_name_prefix="job")

    def submit(job: Job) -> Future[Made]:
        return pool.submit(work, *(parts[number] for number in job.needs), *job.arguments)

    with threadpool_limits(1, user_api="blas"):
        try:
            queue = deque(submit(job) for job in islice(source, _AHEAD * count))
            while queue:
                result = queue.popleft().result()
                queue.extend(submit(job) for job in islice(source, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
