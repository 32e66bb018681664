"""Batches of examples: decoded and changed in threads ahead of the network, and the same on every run.

What is random of an example follows from the seed, the epoch and the example alone, whichever thread makes it and wherever a
killed run went on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import ImageError
from curate.imaging import load_pixels, read_header
from curate.models.training.base import Example, Learner

_AHEAD: Final = 3
_ORDER, _SAMPLE, _STEP = range(3)


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        examples: Those that can be read.
        content: What the learner's `collate` made of their samples; None if not one can be read.
    """

    examples: list[Example]
    content: Any


@dataclass
class Reader:
    """Makes batches.

    Attributes:
        learner: Makes samples of pixels.
        ready: Samples by image_id where they need not be made; see `curate.models.training.base.Precomputing`.
        threads: How many decode and change images; 0 for the caller's own.
        unreadable: Why images could not be read, by their path; grows.
    """

    learner: Learner
    ready: Mapping[str, Any] | None
    threads: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def training(self, examples: Sequence[Example], epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of an epoch, from number `skip` on. What does not fill the last one waits for another epoch."""
        size = min(self.learner.settings.batch_size or 1, len(examples))
        order = generator(self.learner.settings.seed, _ORDER, epoch).permutation(len(examples))
        rows = [order[at : at + size] for at in range(0, len(order) - size + 1, size)]
        yield from self._batches(examples, rows[skip:], epoch)

    def validation(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """All examples, unchanged and in order."""
        size = self.learner.settings.batch_size or 1
        yield from self._batches(
            examples, [np.arange(len(examples))[at : at + size] for at in range(0, len(examples), size)]
        )

    def _batches(
        self, examples: Sequence[Example], rows: Sequence[npt.NDArray[np.int64]], epoch: int | None = None
    ) -> Iterator[Batch]:
        def made(numbers: npt.NDArray[np.int64]) -> list[Future[Any]]:
            return [submit(partial(self._sample, examples[k], epoch, k)) for k in numbers.tolist()]

        with _pool(0 if self.ready is not None else self.threads) as submit:
            coming = iter(rows)
            queue = deque((numbers, made(numbers)) for numbers in islice(coming, _AHEAD))
            while queue:
                numbers, samples = queue.popleft()
                queue.extend((later, made(later)) for later in islice(coming, 1))
                yield self._batch([examples[k] for k in numbers.tolist()], [each.result() for each in samples])

    def _batch(self, examples: Sequence[Example], samples: Sequence[Any]) -> Batch:
        for example, sample in zip(examples, samples, strict=True):
            if isinstance(sample, ImageError):
                self.unreadable[example.path] = sample.what
        both = [pair for pair in zip(examples, samples, strict=True) if not isinstance(pair[1], ImageError)]
        content = self.learner.collate([sample for _, sample in both]) if both else None
        return Batch([example for example, _ in both], content)

    def _sample(self, example: Example, epoch: int | None, number: int) -> Any:
        """What the network takes of one example, or why there is nothing."""
        if self.ready is not None:
            return self.ready.get(example.image_id, ImageError("the image cannot be read", where=example.path))
        rng = None if epoch is None else generator(self.learner.settings.seed, _SAMPLE, epoch, number)
        try:
            if example.size is None:
                header = read_header(example.path)
                example = replace(example, size=(header.height, header.width))
            pixels = load_pixels(example.path, shortest_side=self.learner.settings.image_size)
        except ImageError as error:
            return error
        return self.learner.sample(example, pixels, rng)


def generator(seed: int, *numbers: int) -> np.random.Generator:
    """What is random of one thing: the same whenever it is asked for."""
    return np.random.default_rng([seed, *numbers])


def step_generator(seed: int, step: int) -> np.random.Generator:
    """What is random of one step of the training."""
    return generator(seed, _STEP, step)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """How many batches `Reader.training` makes of an epoch."""
    return max(1, examples // batch_size)


@contextmanager
def _pool(threads: int) -> Iterator[Any]:
    """What starts a call: in a thread, or (0) at once."""
    if threads == 0:
        yield _at_once
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _at_once(call: Any) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(call())
    return done
