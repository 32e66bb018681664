"""The local engine: threads decode (Pillow lets go of the interpreter lock) while the caller's thread runs the stage."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from curate.engine.stage import Failure, Item, Prepared, Rows, Stage
from curate.errors import ImageError
from curate.imaging import crop, load_pixels, read_header

DEFAULT_BATCH = 64
"""Rows per call of the stage: enough to keep matrix products busy, small enough to hold in cache."""


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
) -> Iterator[Rows]:
    """Run a stage over images.

    Memory stays flat: at most one batch and a few items per thread are decoded ahead. An image that cannot be read stops
    nothing; it is reported and left out. Closing the iterator (or Ctrl-C in it) drops what is queued and waits only for
    the images that are being decoded at that moment.

    Args:
        stage: What to compute.
        items: Images; taken from lazily. An image is decoded once for all its boxes.
        threads: Decoding threads; None for one per core.
        batch_size: Rows per call of the stage; the last batch may be smaller.
        on_error: Called in the caller's thread with each item that could not be read, in order.

    Yields:
        One `Rows` per batch, in the order of the items.
    """
    threads = default_threads() if threads is None else max(1, threads)
    numbers: list[tuple[int, int]] = []
    batch: list[Prepared] = []
    for number, item, prepared in _decoded(stage, items, threads, ahead=batch_size + 2 * threads):
        if isinstance(prepared, ImageError):
            if on_error is not None:
                on_error(Failure(number, item.path, prepared))
            continue
        numbers += [(number, box) for box in range(len(prepared))]
        batch += prepared
        while len(batch) >= batch_size:
            yield _run(stage, numbers[:batch_size], batch[:batch_size])
            del numbers[:batch_size], batch[:batch_size]
    if batch:
        yield _run(stage, numbers, batch)


def _run(stage: Stage[Prepared], numbers: Sequence[tuple[int, int]], batch: Sequence[Prepared]) -> Rows:
    item, box = np.array(numbers, dtype=np.int64).reshape(-1, 2).T
    return Rows(item, box, stage.run(batch))


def _decoded(
    stage: Stage[Prepared], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[tuple[int, Item, list[Prepared] | ImageError]]:
    """Items with what `Stage.prepare` made of them, or why not, in order, `ahead` of them being worked on."""
    source = enumerate(items)
    queue: deque[tuple[int, Item, Future[list[Prepared] | ImageError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for number, item in islice(source, ahead):
            queue.append((number, item, pool.submit(_decode, stage, item)))
        while queue:
            number, item, future = queue.popleft()
            result = future.result()
            for following, next_item in islice(source, 1):
                queue.append((following, next_item, pool.submit(_decode, stage, next_item)))
            yield number, item, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(stage: Stage[Prepared], item: Item) -> list[Prepared] | ImageError:
    """Everything wanted of one image file. Runs in a decoding thread."""
    try:
        if item.boxes is None:
            return [stage.prepare(load_pixels(item.path, shortest_side=stage.input_size))]
        if not item.boxes:
            return []
        return [stage.prepare(pixels) for pixels in _crops(item, item.boxes, stage.input_size, stage.margin)]
    except ImageError as error:
        return error


def _crops(item: Item, boxes: Sequence[Sequence[float]], input_size: int | None, margin: float) -> Iterator[np.ndarray]:
    """Cut the boxes out of one decoding, at a scale that leaves the smallest of them enough pixels."""
    header = read_header(item.path)
    shortest_side = None
    if input_size is not None:
        smallest = min(min(w, h) + 2 * margin * max(w, h) for _, _, w, h in boxes)
        shortest_side = math.ceil(min(header.width, header.height) * input_size / max(smallest, 1.0))
    pixels = load_pixels(item.path, shortest_side=shortest_side)
    across, down = pixels.shape[1] / header.width, pixels.shape[0] / header.height
    for x, y, w, h in boxes:
        yield crop(pixels, [x * across, y * down, w * across, h * down], margin=margin)
