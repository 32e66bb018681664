"""What `curate bench` does: which packages are run how, measured here and estimated for other devices."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from curate.edge.bench.devices import DEVICES, Estimate, estimate
from curate.edge.bench.job import Subject
from curate.edge.bench.measure import Limits, Measured, Progress, bench
from curate.edge.bench.operations import Work, measure_work
from curate.edge.bench.pictures import make_pictures
from curate.errors import InputError, MissingExtra, UsageError
from curate.imaging import IMAGE_SUFFIXES
from curate.runner import BACKENDS, Package, PackageError, Runner, load_image

PICTURE: Final = (720, 1280)
"""Height and width of the images that are made where none are given."""

MOST: Final = 64
"""Images that are taken from a folder: more would only make sure that none is in the system's cache."""

_NAMED: Final = 5
_RUNS: Final = {
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
    "tflite": ("tflite",),
    "tensorrt": ("tensorrt", "onnxruntime", "openvino"),
}
_MODULES: Final = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        packages: Folders.
        backends: What runs them; empty for all that is installed and can.
        threads: That one inference may use; each in turn.
        batches: Images for each call; each in turn.
        images: A folder of images, or one; None to make some.
        seconds: Of measuring for each.
        limits: Cores and memory.
        seed: Of everything random.
    """

    packages: Sequence[Path]
    backends: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    images: Path | None = None
    seconds: float = 5.0
    limits: Limits = field(default_factory=Limits)
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        measured: In the order in which they were asked for.
        labels: What to call each of them.
        work: What one image costs, by package; of ONNX packages only.
        estimates: For other devices, by package.
        notes: What could not be done, and why.
    """

    measured: Sequence[Measured]
    labels: Sequence[str]
    work: dict[str, Work]
    estimates: dict[str, list[Estimate]]
    notes: Sequence[str]


def run_bench(request: Request, *, progress: Progress | None = None) -> Report:
    """Measure packages side by side, and estimate what they may come to elsewhere.

    Raises:
        UsageError: There is nothing to measure: no package can be run by what is asked for and installed.
        InputError: A package or an image cannot be used.
    """
    _check(request)
    packages = {str(folder): _open(folder) for folder in request.packages}
    notes: list[str] = []
    subjects = list(_subjects(request, packages, notes))
    with _images(request, notes) as images:
        measured = bench(
            subjects,
            images,
            seconds=request.seconds,
            limits=request.limits,
            seed=request.seed,
            progress=progress,
        )
        work = _work(packages, images, notes)
    estimates = {folder: [estimate(device, each) for device in DEVICES] for folder, each in work.items()}
    return Report(measured, [_label(each, packages) for each in subjects], work, estimates, notes)


def _check(request: Request) -> None:
    """Raise a `UsageError` for what cannot be."""
    for option, values in (("--threads", request.threads), ("--batch", request.batches)):
        if not values or min(values) < 1:
            raise UsageError("a number from 1 on is needed", where=option)
    if not 0 < request.seconds < float("inf"):
        raise UsageError(
            f"{request.seconds:g} seconds cannot be measured", where="--seconds", remedy="a number above 0"
        )
    if request.limits.cores is not None and request.limits.cores < 1:
        raise UsageError("a device without a core computes nothing", where="--cores", remedy="a number from 1 on")
    if request.limits != Limits() and sys.platform != "linux":
        what = "a smaller device can be had on Linux only"
        raise UsageError(what, where="--cores, --memory", remedy="leave them out, or run this on the device")
    unknown = set(request.backends) - set(BACKENDS.values())
    if unknown:
        known = ", ".join(BACKENDS.values())
        raise UsageError(f"there is no backend '{min(unknown)}'", where="--backend", remedy=f"one of: {known}")


def _open(folder: Path) -> Package:
    try:
        return Package.open(folder)
    except PackageError as error:
        raise InputError(str(error)) from error


def _subjects(request: Request, packages: dict[str, Package], notes: list[str]) -> Iterator[Subject]:
    """Every package with every backend that can run it, and every number of threads and images."""
    found = False
    for folder, package in packages.items():
        fixed = package.manifest["preprocess"].get("batch")
        for backend in _RUNS.get(package.target, ()):
            if request.backends and backend not in request.backends:
                continue
            if not _is_installed(backend):
                notes.append(f"{package.id} was not run by {backend}, which is not installed")
                continue
            for threads, batch in product(request.threads, request.batches):
                found = True
                yield Subject(folder, backend, threads, batch)
        if fixed and max(request.batches) > fixed:
            notes.append(f"{package.id} takes {fixed} at a time: larger batches are several calls of the model")
    if not found:
        raise UsageError(
            "nothing that is asked for can run these packages",
            where=", ".join(package.id for package in packages.values()),
            remedy="; ".join(notes) or "leave out --backend",
        )


def _is_installed(backend: str) -> bool:
    """Whether a backend is there to run a package."""
    if backend != "tensorrt":
        return find_spec(_MODULES[backend]) is not None
    import onnxruntime

    return "TensorrtExecutionProvider" in onnxruntime.get_available_providers()


@contextmanager
def _images(request: Request, notes: list[str]) -> Iterator[list[Path]]:
    """Files to measure on; those that are made are gone afterwards, those that cannot be read are left out and told."""
    if request.images is None:
        with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
            yield make_pictures(Path(folder), PICTURE, seed=request.seed)
        return
    path = request.images.expanduser()
    if not path.exists():
        raise UsageError("there is no such file or folder", where=path, remedy="check --images")
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if _is_image(each))
    if not files:
        raise UsageError("the folder has no images", where=path, remedy="check --images")
    yield _readable(path, files, notes)


def _readable(path: Path, files: Sequence[Path], notes: list[str]) -> list[Path]:
    """The first files that are images indeed.

    Raises:
        InputError: There is none.
    """
    found: list[Path] = []
    broken: list[Path] = []
    for each in files:
        try:
            load_image(each)
        except PackageError as error:
            if len(files) == 1:
                raise InputError(str(error)) from error
            broken.append(each)
        else:
            found.append(each)
        if len(found) == MOST:
            break
    if not found:
        raise InputError("not one image can be read", where=path, remedy="check --images")
    if broken:
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        names = ", ".join(str(each) for each in broken[:_NAMED])
        notes.append(f"left out, as they cannot be read: {names}{more}")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _work(packages: dict[str, Package], images: Sequence[Path], notes: list[str]) -> dict[str, Work]:
    """What one image costs each package of which that can be told."""
    found = {}
    for folder, package in packages.items():
        if package.target not in ("onnx", "tensorrt"):
            notes.append(f"{package.id}: no estimates; operations are counted in ONNX packages")
            continue
        try:
            runner = Runner(package, backend="onnxruntime")
            one = np.stack([runner.prepare(load_image(images[0])).array])
            found[folder] = measure_work(package.model, package.manifest["preprocess"]["input"], one)
        except (MissingExtra, InputError, PackageError) as error:
            notes.append(f"{package.id}: no estimates; {error}")
    return found


def _label(subject: Subject, packages: dict[str, Package]) -> str:
    return f"{packages[subject.package].id} ({packages[subject.package].target})"
