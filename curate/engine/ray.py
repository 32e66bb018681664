"""The Ray engine: the same stages and jobs on the machines of a cluster, or in processes of this one.

    ray                                     the cluster that $RAY_ADDRESS names, else one of this machine alone
    ray:10.0.0.1:6379                       the cluster whose head node has this address
    ray?workers=2&cpus=4&gpus=1&store=80    at most 2 workers of 4 cores and a GPU each; for a cluster of this machine alone,
                                            80 MB of shared memory

A pass goes out in blocks of a few batches, each a task of Ray's; a worker keeps the stage between its blocks, and decodes by
`run_local`. Batches are those of the local engine, so that what a stage gives is the same to the last digit. A worker that dies
costs what it was at (`curate.engine.retrying`); an image that no worker survives is reported like one that cannot be read.

A cluster of this machine alone listens on 127.0.0.1, has no dashboard, and is gone with the command. Nothing is reported to
anybody: Ray's statistics of use are turned off before it is imported.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import numpy as np

from curate import __version__
from curate.engine.jobs import Job
from curate.engine.local import BATCHES_A_BLOCK, DEFAULT_BATCH, default_threads
from curate.engine.remote import Blob, Block, Raised, Recipe, run_block, run_job
from curate.engine.retrying import TRIES_ALONE, Fate, Unit, cut, in_order
from curate.engine.stage import CountingStage, Failure, Item, Prepared, Rows, Stage
from curate.environment import environment
from curate.errors import ImageError, InputError, MissingExtra, UnavailableError, UsageError
from curate.imaging import Pixels

Made = TypeVar("Made")

ADDRESS_VARIABLE: Final = "RAY_ADDRESS"
_LOCAL: Final = "local"
_TRIES_OF_A_JOB: Final = 8  # jobs are curate's own: what kills them is most likely what else happens on a machine
_REACH_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 5.0

_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray warns of otherwise
}
_LOOPBACK: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: as on those systems, no other machine can join
_TOKEN: Final = "RAY_AUTH_TOKEN"
_TOKEN_MODE: Final = "RAY_AUTH_MODE"


@dataclass(frozen=True)
class RayOptions:
    """What `--engine ray` was told.

    Attributes:
        address: HOST:PORT of a cluster's head node; 'local' for a cluster of this machine alone.
        workers: At most so many at a time; None for as many as the cluster has room for.
        cpus: Cores of each.
        gpus: GPUs of each; a part of one is allowed.
        store: MB of shared memory of a local cluster; None for what Ray takes.
    """

    address: str
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    store: int | None = None


def parse_options(argument: str) -> RayOptions:
    """Understand what stands behind 'ray'.

    Raises:
        UsageError: It cannot be understood.
    """
    address, _, query = argument.partition("?")
    address = address or os.environ.get(ADDRESS_VARIABLE) or _LOCAL
    if "//" in address:  # of ray://HOST, 'ray:' is the engine's name
        raise UsageError(
            "the engine does not go through Ray's client",
            where=address,
            remedy="run curate on a machine of the cluster, and name its head node: ray:HOST:PORT",
        )
    kinds: dict[str, type[int] | type[float]] = {"workers": int, "cpus": int, "gpus": float, "store": int}
    options = RayOptions(address)
    for key, text in parse_qsl(query, keep_blank_values=True):
        try:
            value = kinds[key](text)
        except (KeyError, ValueError):
            value = -1
        if not 0 < value < float("inf"):
            known = ", ".join(kinds)
            raise UsageError(
                f"'{key}={text}' is not understood",
                where="--engine",
                remedy=f"numbers above 0 for: {known}; whole ones but for gpus",
            )
        options = replace(options, **{key: value})  # type: ignore[arg-type]
    return options


@contextmanager
def open_ray(argument: str) -> Generator[RayEngine, None, None]:
    """Connect to a cluster, or start one. A connection that this process has already is used, and left open.

    Raises:
        UsageError: The argument cannot be understood.
        MissingExtra: Ray is not installed.
        UnavailableError: The cluster cannot be reached.
    """
    options = parse_options(argument)
    with ExitStack() as stack:
        stack.enter_context(environment(_QUIET))
        if options.address == _LOCAL:
            wanted = {
                _LOOPBACK: "0",
                _TOKEN: _token(),
                _TOKEN_MODE: os.environ.get(_TOKEN_MODE),
                "PYTHONPATH": os.pathsep.join(sys.path),  # workers import what this process does
            }
            stack.enter_context(environment(wanted))
        elif options.address != "auto":
            _require_reachable(options.address)
        ray = _import_ray()
        if not ray.is_initialized():
            stack.enter_context(_connection(ray, options))
        yield RayEngine(ray, options)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    return ray


@cache
def _token() -> str:
    """What processes of a local cluster know one another by: Ray would write one to the home folder. One for each process."""
    return secrets.token_hex(32)


def _require_reachable(address: str) -> None:
    """Find out in seconds: Ray itself tries for a minute.

    Raises:
        UsageError: The address is none.
        UnavailableError: Nothing answers.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"'{address}' is no address of a cluster", where="--engine", remedy="write ray:HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, reason: object) -> UnavailableError:
    return UnavailableError(
        f"the Ray cluster cannot be reached: {reason}",
        where=address,
        remedy="see that 'ray status' answers there, with the same versions of Ray and Python; "
        "'--engine ray:local' starts one on this machine",
    )


@contextmanager
def _connection(ray: Any, options: RayOptions) -> Iterator[None]:
    quiet = logging.getLogger("ray")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    folder: Path | None = None
    try:
        if options.address == _LOCAL:
            cores = default_threads() if options.workers is None else options.workers * options.cpus
            # Not in a folder of this process's own: names of sockets have a hundred characters at most.
            folder = Path(tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp")))
            store = options.store and options.store << 20
            settings |= {
                "num_cpus": max(cores, options.cpus),
                "include_dashboard": False,
                "object_store_memory": store,
                "_temp_dir": str(folder),
            }
        try:
            with _undisturbed(), warnings.catch_warnings():
                # Ray starts its processes by fork and exec, which is as safe for Lance's threads as any other start.
                warnings.filterwarnings("ignore", message="lance is not fork-safe")
                ray.init(address=options.address, **settings)
            # What Ray tells of a worker's death it prints to stdout, which is for results. It is reported as it should be here.
            ray._private.worker._worker_logs_enabled = False
        except Exception as error:  # of no narrower type where a node is too slow to start
            raise _unreachable(options.address, str(error).partition("\n")[0]) from error
        yield
    finally:
        with _undisturbed():
            ray.shutdown()
            ray._private.worker._worker_logs_enabled = True
            quiet.setLevel(level)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C in the block takes effect at its end; a second one at once.

    Ray that is half started, or half shut down, leaves files and crashes at the interpreter's end.
    """
    if threading.current_thread() is not threading.main_thread():  # which has no part in signals
        yield
        return
    came: list[int] = []

    def wait(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


class RayEngine:
    """See the module's docstring and `curate.engine.engines.Engine`.

    Args:
        ray: The package, connected.
        options: What was asked for.
    """

    distributed = True

    def __init__(self, ray: Any, options: RayOptions) -> None:
        self._ray = ray
        self._options = options
        given = {"num_cpus": options.cpus, "num_gpus": options.gpus, "max_retries": 0}
        self._block = ray.remote(**given)(run_block)
        self._job = ray.remote(**given)(run_job)

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
        """As `curate.engine.local.run_local`; the stage and what it is made of are pickled.

        Args:
            stage: The same.
            items: The same; a few blocks ahead are read.
            threads: Of each worker; None for as many as it has cores.
            batch_size: The same.
            on_error: The same.
            prepare_crop: The same.

        Raises:
            UsageError: The stage cannot be pickled.
            UnavailableError: Workers die of whatever they are given, or the cluster is gone.
        """
        recipe = Recipe(secrets.token_hex(8), __version__, threads or self._options.cpus, batch_size)
        blob = self._put(_pickled((stage, prepare_crop)))
        counted = stage.refused if isinstance(stage, CountingStage) else None
        units = cut(items, lambda item: len(item.boxes), BATCHES_A_BLOCK * batch_size)
        with closing(self._done(lambda unit: self._block.remote(recipe, blob, unit.items), units)) as done:
            for unit in done:
                if unit.fate == "given up":
                    if on_error is not None:
                        on_error(Failure(unit.first, None, _deadly(unit.items[0])))
                    continue
                block: Block = unit.result
                if counted is not None:
                    counted.update(block.refused)
                for event in block.events:
                    if isinstance(event, Rows):
                        yield replace(event, item=event.item + unit.first)
                    elif on_error is not None:
                        on_error(replace(event, item=event.item + unit.first))

    def map(
        self, work: Callable[..., Made], jobs: Iterable[Job], parts: Sequence[Any] = ()
    ) -> Generator[Made, None, None]:
        """As `curate.engine.jobs.map_jobs_local`; a part is put into Ray's store when the first job needs it.

        Raises:
            UsageError: The function cannot be pickled.
            InputError: Workers die of a job.
            UnavailableError: They die of whatever they are given, or the cluster is gone.
        """
        function = self._put(_pickled(work))
        put = cache(lambda number: self._ray.put(parts[number]))

        def submit(unit: Unit) -> Any:
            job: Job = unit.items[0]
            needed = [put(number) for number in job.needs]
            return self._job.remote(__version__, self._options.cpus, function, job.arguments, *needed)

        units = (Unit(number, [job]) for number, job in enumerate(jobs))
        with closing(self._done(submit, units, _TRIES_OF_A_JOB)) as done:
            for unit in done:
                if unit.fate == "given up":
                    raise InputError(
                        f"{_TRIES_OF_A_JOB} worker processes died of one job, most likely for want of memory",
                        where=getattr(work, "__name__", None),
                        remedy="give workers more memory each: fewer of them on a machine (--engine 'ray?cpus=2')",
                    )
                yield unit.result

    def _put(self, content: Blob) -> Any:
        return self._ray.put(content)

    def _done(
        self, submit: Callable[[Unit], Any], units: Iterable[Unit], tries: int = TRIES_ALONE
    ) -> Generator[Unit, None, None]:
        """Every unit, done or given up, in order.

        After it was closed, or an error, what is under way, at most two units a worker, ends by itself or with the program.
        `ray.cancel` would stop it, and aborts the whole program where a task ends in that moment ("Tried to complete task that
        was not pending"; as in ray-project/ray#54798).
        """
        return in_order(_Cluster(self._ray, self._options, submit), units, tries)


def _pickled(what: Any) -> Blob:
    from ray import cloudpickle

    try:
        return np.frombuffer(cloudpickle.dumps(what, protocol=5), np.uint8)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise UsageError(
            f"this cannot be sent to other processes: {error}",
            where="--engine ray",
            remedy="run it with '--engine local'; or let the plugin's objects be pickled",
        ) from error


def _deadly(item: Item) -> ImageError:
    return ImageError(
        f"{TRIES_ALONE} worker processes died of it, one after the other",
        where=item.path,
        remedy="look at the file alone: it may be damaged so that a decoder crashes, or be too large for a worker's memory",
    )


class _Cluster:
    """Ray's workers, as `curate.engine.retrying` has them.

    Args:
        ray: The package, connected.
        options: What was asked for.
        submit: Makes a task of a unit.
    """

    def __init__(self, ray: Any, options: RayOptions, submit: Callable[[Unit], Any]) -> None:
        self._ray = ray
        self._options = options
        self._submit = submit
        self._room = 1
        self._looked = -_LOOK_SECONDS

    def submit(self, unit: Unit) -> Hashable:
        """Give a unit out."""
        task: Hashable = self._submit(unit)
        return task

    def wait(self, given: Sequence[Hashable]) -> tuple[Hashable, Fate, Any]:
        """Wait for one of several units."""
        (task, *_), _ = self._ray.wait(list(given), num_returns=1)
        return task, *self._fate(task)

    def capacity(self) -> int:
        """Twice as many units as there is room for, so that no worker waits, and a cluster that grows does; or the limit."""
        if self._options.workers is not None:
            return self._options.workers
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            there = self._ray.cluster_resources()
            rooms = [there.get("CPU", 0) / self._options.cpus]
            if self._options.gpus:
                rooms.append(there.get("GPU", 0) / self._options.gpus)
            self._room, self._looked = max(1, int(min(rooms))), time.monotonic()
        return 2 * self._room

    def _fate(self, task: Any) -> tuple[Fate, Any]:
        errors = self._ray.exceptions
        try:
            result = pickle.loads(self._ray.get(task))
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            return "died", _first_line(error)
        except errors.RayTaskError as error:  # before our code ran: it cannot be imported there
            raise UnavailableError(
                f"a worker cannot do its work: {_first_line(error.cause)}",
                remedy="install the same version of curate, with the same extras, on every machine",
            ) from error
        except errors.RayError as error:
            return "lost", _first_line(error)
        if isinstance(result, Raised):
            result.error.add_note(f"in a worker:\n{result.trace}")
            raise result.error
        return "done", result


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
