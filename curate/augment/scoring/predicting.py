"""What a model says of images, each of them in several versions: as it is, and changed by recipes."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from curate.augment.scoring.truth import Truth, truth_of
from curate.checks.boxes import BoolArray, IntArray
from curate.engine.local import default_threads
from curate.errors import ImageError
from curate.imaging import Pixels, load_pixels, read_header
from curate.models.passes import Progress
from curate.models.predictors.base import Options, Predictor, Size
from curate.models.predictors.class_names import ClassMapping
from curate.models.predictors.predict_pass import default_batch
from curate.models.predictors.results import result_rows
from curate.models.training.base import Example

if TYPE_CHECKING:
    from curate.recipes import Pipeline

CACHED_BYTES: Final = 256 << 20
"""Of decoded images that are kept, so that a set of some hundred is decoded once for all that is done to it."""


@dataclass(frozen=True)
class Version:
    """One way to show every image to a model.

    Attributes:
        name: Unique among the versions.
        change: What is done; None for the image as it is.
        stream: Versions of the same stream change an image by the same random numbers: one shadow that gets deeper.
    """

    name: str
    change: Pipeline | None = None
    stream: str = ""


@dataclass(frozen=True)
class Subject:
    """The model, and the images that it is shown.

    Attributes:
        predictor: The model.
        mapping: Which of its classes is which of the dataset's.
        options: What the model was loaded with.
        examples: The images.
        codes: Number in `mapping.names` of each class that the examples number.
        seed: Of what is random.
        side: Images that are larger are first scaled to this shorter side, pixels, so that a blur of some pixels is the same
            blur for every camera; None for what the model's decoding leaves.
    """

    predictor: Predictor
    mapping: ClassMapping
    options: Options
    examples: Sequence[Example]
    codes: IntArray
    seed: int = 0
    side: int | None = None

    def truth(self, row: int, size: Size | None) -> Truth:
        """What is on an image, at the size at which the model was given it; of a class alone, no size need be known."""
        example = self.examples[row]
        full = full_size(example) if size is not None else (1, 1)
        return truth_of(example, full, size or full, self.codes)


Keep = Callable[[IntArray, Sequence[str], pa.RecordBatch, Sequence[str | None]], None]
"""Given rows of images, names of versions, columns of `RESULTS`, and the truth as JSON where a version has moved it."""


def predict_versions(
    subject: Subject, versions: Sequence[Version], todo: BoolArray, keep: Keep, progress: Progress | None = None
) -> dict[str, str]:
    """Ask a model what is on every version of every image.

    Memory stays flat but for decoded images (`CACHED_BYTES`). Ctrl-C drops what is queued.

    Args:
        subject: The model and n images.
        versions: m of them.
        todo: Which are wanted; bool of shape (n, m).
        keep: Called with results as they come.
        progress: Told (done, to do).

    Returns:
        Why images cannot be read, by their path.
    """
    unreadable: dict[str, str] = {}
    total, done = int(todo.sum()), 0
    size = default_batch(subject.predictor.input_size)
    waiting: list[_Ready] = []

    def flush() -> None:
        nonlocal waiting, done
        if waiting:
            _predict(subject, waiting, keep)
            done += len(waiting)
            waiting = []
            if progress is not None:
                progress(done, total)

    with threadpool_limits(1, user_api="blas"):
        for row, made in _prepared(subject, versions, todo):
            if isinstance(made, ImageError):
                unreadable[subject.examples[row].path] = made.what
                done += int(todo[row].sum())
                continue
            for each in made:
                waiting.append(each)
                if len(waiting) >= size:
                    flush()
        flush()
    return unreadable


def fitted(pixels: Pixels, side: int | None) -> Pixels:
    """An image no larger than so many pixels on its shorter side; itself where it is not larger."""
    height, width = pixels.shape[:2]
    if side is None or min(height, width) <= side:
        return np.asarray(pixels)
    ratio = side / min(height, width)
    wanted = (round(width * ratio), round(height * ratio))
    return np.asarray(cv2.resize(np.asarray(pixels), wanted, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def full_size(example: Example) -> Size:
    """(height, width) that an example's coordinates refer to."""
    if example.size is not None:
        return example.size
    header = read_header(example.path)
    return header.height, header.width


@dataclass(frozen=True)
class _Ready:
    """One version of one image, ready for the model."""

    row: int
    version: str
    prepared: Any
    moved: str | None


def _predict(subject: Subject, ready: Sequence[_Ready], keep: Keep) -> None:
    predictor = subject.predictor
    predictions = predictor.predict([each.prepared for each in ready])
    results = result_rows(predictions, subject.mapping, subject.options.nms_iou, predictor.name)
    rows = np.array([each.row for each in ready], dtype=np.int64)
    keep(rows, [each.version for each in ready], results, [each.moved for each in ready])


def _prepared(
    subject: Subject, versions: Sequence[Version], todo: BoolArray
) -> Iterator[tuple[int, list[_Ready] | ImageError]]:
    """Each image with its versions, made in threads some images ahead."""
    load = _loader(subject)

    def make(row: int) -> tuple[int, list[_Ready] | ImageError]:
        try:
            return row, _versions_of(subject, row, load(row), [versions[k] for k in np.flatnonzero(todo[row]).tolist()])
        except ImageError as error:
            return row, error

    yield from _ahead(make, np.flatnonzero(todo.any(axis=1)).tolist())


def _ahead(make: Callable[[int], Any], rows: Iterable[int]) -> Iterator[Any]:
    """What is made of each row, in order, by threads that are a few rows ahead."""
    threads, coming = default_threads(), iter(rows)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="versions")
    try:
        queue = deque(pool.submit(make, row) for row in islice(coming, threads + 1))
        while queue:
            made = queue.popleft().result()
            queue.extend(pool.submit(make, row) for row in islice(coming, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _loader(subject: Subject) -> Callable[[int], Pixels]:
    """Decodes an image; the last ones are kept, and all of a set that is small enough."""
    side = subject.side or subject.predictor.input_size

    def decode(row: int) -> Pixels:
        return fitted(load_pixels(subject.examples[row].path, shortest_side=side), subject.side)

    height, width = (side or 1024), (side or 1024) * 4 // 3
    return lru_cache(maxsize=max(1, CACHED_BYTES // (3 * height * width)))(decode)


def _versions_of(subject: Subject, row: int, pixels: Pixels, versions: Sequence[Version]) -> list[_Ready]:
    truth: Truth | None = None
    made = []
    for version in versions:
        if version.change is None:
            made.append(_Ready(row, version.name, subject.predictor.prepare(pixels), None))
            continue
        if truth is None and subject.predictor.task != "classify":
            truth = subject.truth(row, (pixels.shape[0], pixels.shape[1]))
        shapes = [] if truth is None else truth.shapes()
        changed = version.change(pixels, _generator(subject, row, version.stream), shapes)
        moved = None
        if truth is not None and any(a is not b for a, b in zip(changed.shapes, shapes, strict=True)):
            moved = truth.moved(changed.shapes, (changed.pixels.shape[0], changed.pixels.shape[1])).to_text()
        made.append(_Ready(row, version.name, subject.predictor.prepare(changed.pixels), moved))
    return made


def _generator(subject: Subject, row: int, stream: str) -> np.random.Generator:
    """What is random of one image: the same in every run, whatever the other images are."""
    image = int(subject.examples[row].image_id, 16)
    return np.random.default_rng([subject.seed, image, zlib.crc32(stream.encode())])
