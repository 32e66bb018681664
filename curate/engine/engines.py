"""Which engine runs stages and jobs: threads of this process, or a Ray cluster.

    with use_engine("ray"):
        ...                 # every pass over images, and every `map_jobs`, runs on the cluster

An engine is chosen once, around a whole command, and asked for where the work is: nothing between has to hand it on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

from curate.engine.jobs import Job, map_jobs_local
from curate.engine.local import DEFAULT_BATCH, run_local
from curate.engine.stage import Failure, Item, Prepared, Rows, Stage
from curate.errors import UsageError
from curate.imaging import Pixels
from curate.registry import Registry

Made = TypeVar("Made")


class Engine(Protocol):
    """Runs stages over images, and jobs. Every engine gives what the local one gives, in the same order."""

    distributed: bool
    """Whether work is done in other processes, which see the same paths."""

    def run(
        self,
        stage: Stage[Prepared],
        items: Iterable[Item],
        *,
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH,
        on_error: Callable[[Failure], None] | None = None,
        prepare_crop: Callable[[Pixels, Sequence[float]], Prepared] | None = None,
    ) -> Generator[Rows, None, None]:
        """As `curate.engine.local.run_local`."""

    def map(self, work: Callable[..., Made], jobs: Iterable[Job], parts: Sequence[Any]) -> Generator[Made, None, None]:
        """As `curate.engine.jobs.map_jobs_local`."""


class LocalEngine:
    """Threads of this process."""

    distributed = False
    run = staticmethod(run_local)
    map = staticmethod(map_jobs_local)


def open_local(argument: str) -> AbstractContextManager[Engine]:
    """The local engine, which needs no opening.

    Raises:
        UsageError: It was told something.
    """
    if argument:
        raise UsageError(f"'local' takes no argument, got '{argument}'", where="--engine", remedy="write 'local'")
    return nullcontext(LocalEngine())


ENGINES: Final[Registry[Callable[[str], AbstractContextManager[Engine]]]] = Registry(
    "engine", {"local": "curate.engine.engines:open_local", "ray": "curate.engine.ray:open_ray"}
)
"""By name: each takes what stands behind it ('' if nothing does) to an engine that is open for as long as it is used."""

_LOCAL: Final = LocalEngine()
_engine: ContextVar[Engine | None] = ContextVar("engine", default=None)


def current_engine() -> Engine:
    """The engine in use; the local one unless something else was asked for."""
    return _engine.get() or _LOCAL


@contextmanager
def use_engine(spec: str) -> Generator[None, None, None]:
    """Run everything within on an engine.

    Args:
        spec: Its name, and behind it what it wants: 'local', 'ray', 'ray:10.0.0.1:6379', 'ray?workers=2'.

    Raises:
        UsageError: There is no such engine, or it does not understand what stands behind its name.
        UnavailableError: It cannot be reached; `MissingExtra` for a package.
    """
    name = re.split("[:?]", spec, maxsplit=1)[0]
    argument = spec.removeprefix(name).removeprefix(":")
    with ENGINES.get(name)(argument) as engine:
        token = _engine.set(engine)
        try:
            yield
        finally:
            _engine.reset(token)


def map_jobs(work: Callable[..., Made], jobs: Iterable[Job], parts: Sequence[Any] = ()) -> Generator[Made, None, None]:
    """Call a function for each job, on the engine in use; see `curate.engine.jobs.map_jobs_local`."""
    return current_engine().map(work, jobs, parts)
