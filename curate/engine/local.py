"""The local engine: threads decode (Pillow lets go of the interpreter lock) while the caller's thread runs the stage."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from curate.engine.stage import Failure, Item, Prepared, Rows, Stage
from curate.errors import ImageError
from curate.imaging import ImageHeader, Pixels, crop, load_pixels, read_header

DEFAULT_BATCH = 64
"""Rows per call of the stage: enough to keep matrix products busy, small enough to hold in cache."""


BATCHES_A_BLOCK: Final = 4
"""Every so many batches' worth of items, a batch ends with the item: what is in a batch never follows from what came long before
it, so that an engine that gives such blocks of items to different processes makes the same batches."""


def default_threads() -> int:
    """Decoding threads when the user does not say: one per core this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_local(
    stage: Stage[Prepared],
    items: Iterable[Item],
    *,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    on_error: Callable[[Failure], None] | None = None,
    prepare_crop: Callable[[Pixels, Sequence[float]], Prepared] | None = None,
) -> Generator[Rows, None, None]:
    """Run a stage over images.

    Memory stays flat: at most one batch and a few items per thread are decoded ahead. An image that cannot be read, or a
    box that holds none of its image's pixels, stops nothing; it is reported and left out. Closing the iterator (or Ctrl-C
    in it) drops what is queued and waits only for the images that are being decoded at that moment.

    Args:
        stage: What to compute.
        items: Images; taken from lazily. An image is decoded once for all its boxes.
        threads: Decoding threads; None for one per core.
        batch_size: Rows per call of the stage. The last batch of a block (`BATCHES_A_BLOCK`) is smaller where images cannot be
            read, or have several boxes.
        on_error: Called in the caller's thread with each failure, in order.
        prepare_crop: Takes a decoded image, and a box in its pixels, to what `Stage.run` takes. None: the stage prepares what
            is cut out with its margin, as if it were an image.

    Yields:
        One `Rows` per batch, in the order of the items.
    """
    threads = default_threads() if threads is None else max(1, threads)
    numbers: list[tuple[int, int]] = []
    batch: list[Prepared] = []

    def cut_out(pixels: Pixels, box: Sequence[float]) -> Prepared:
        return stage.prepare(crop(pixels, box, margin=stage.margin))

    decode = partial(_decode, stage, prepare_crop or cut_out)
    rows = 0
    for item, (asked, parts) in enumerate(_decoded(decode, items, threads, ahead=batch_size + 2 * threads)):
        if isinstance(parts, ImageError):
            _report(on_error, Failure(item, None, parts))
            parts = []
        for box, part in enumerate(parts):
            if isinstance(part, ImageError):
                _report(on_error, Failure(item, box, part))
                continue
            numbers.append((item, box))
            batch.append(part)
            if len(batch) == batch_size:
                yield _run(stage, numbers, batch)
                numbers, batch = [], []
        rows += asked
        if rows >= BATCHES_A_BLOCK * batch_size:
            rows = 0
            if batch:
                yield _run(stage, numbers, batch)
                numbers, batch = [], []
    if batch:
        yield _run(stage, numbers, batch)


def _report(on_error: Callable[[Failure], None] | None, failure: Failure) -> None:
    if on_error is not None:
        on_error(failure)


def _run(stage: Stage[Prepared], numbers: Sequence[tuple[int, int]], batch: Sequence[Prepared]) -> Rows:
    item, box = np.array(numbers, dtype=np.int64).reshape(-1, 2).T
    return Rows(item, box, stage.run(batch))


def _decoded(
    decode: Callable[[Item], tuple[int, list[Prepared | ImageError] | ImageError]],
    items: Iterable[Item],
    threads: int,
    ahead: int,
) -> Iterator[tuple[int, list[Prepared | ImageError] | ImageError]]:
    """How many rows were asked of each item, and what was made of it, or why not, in order; `ahead` items are being worked on."""
    source = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        queue = deque(pool.submit(decode, item) for item in islice(source, ahead))
        while queue:
            result = queue.popleft().result()
            queue.extend(pool.submit(decode, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(
    stage: Stage[Prepared], prepare_crop: Callable[[Pixels, Sequence[float]], Prepared], item: Item
) -> tuple[int, list[Prepared | ImageError] | ImageError]:
    """Everything wanted of one image file, and how many rows that is. Runs in a decoding thread."""
    asked = len(item.boxes)
    try:
        if item.boxes and all(box is None for box in item.boxes):
            prepared = stage.prepare(load_pixels(item.path, shortest_side=stage.input_size))
            return asked, [prepared] * asked
        return asked, _decode_boxes(stage, prepare_crop, item.path, item.boxes)
    except ImageError as error:
        return asked, error


def _decode_boxes(
    stage: Stage[Prepared],
    prepare_crop: Callable[[Pixels, Sequence[float]], Prepared],
    path: str | Path,
    boxes: Sequence[Sequence[float] | None],
) -> list[Prepared | ImageError]:
    """Cut the boxes out of one decoding, at a scale that leaves the smallest of them enough pixels."""
    header = read_header(path)
    faults = [None if box is None else _fault(box, header) for box in boxes]
    possible = [box for box, fault in zip(boxes, faults, strict=True) if fault is None]
    shortest_side = None
    if stage.input_size is not None and possible:
        shortest = min(header.width, header.height)
        smallest = min(shortest if box is None else _shorter_side(box, stage.margin) for box in possible)
        shortest_side = math.ceil(shortest * stage.input_size / max(smallest, 1.0))
    # A file with nothing possible on it is not decoded.
    pixels = load_pixels(path, shortest_side=shortest_side) if possible else None
    prepared: list[Prepared | ImageError] = []
    for box, fault in zip(boxes, faults, strict=True):
        if pixels is None or fault is not None:
            prepared.append(_impossible(path, box or (), fault or ""))
        elif box is None:
            prepared.append(stage.prepare(pixels))
        else:
            scale = np.tile([pixels.shape[1] / header.width, pixels.shape[0] / header.height], 2)
            prepared.append(prepare_crop(pixels, (scale * box).tolist()))
    return prepared


def _shorter_side(box: Sequence[float], margin: float) -> float:
    """Of a crop, pixels of the full-size image."""
    _, _, width, height = box
    return min(width, height) + 2 * margin * max(width, height)


def _fault(box: Sequence[float], image: ImageHeader) -> str | None:
    """Why a box holds no pixel of its image, or None if it does."""
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        return "has a coordinate that is not a number"
    if w <= 0 or h <= 0:
        return "has no area"
    if x >= image.width or y >= image.height or x + w <= 0 or y + h <= 0:
        return f"lies outside the image of {image.width} x {image.height} pixels"
    return None


def _impossible(path: str | Path, box: Sequence[float], fault: str) -> ImageError:
    return ImageError(f"the box {[float(value) for value in box]} {fault}", where=path, remedy="mend or delete the box")
