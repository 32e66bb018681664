"""Look through a film with a package: frame by frame, in batches, the processor time of each stage measured."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from curate.runner import Prepared, Runner
from examples.common import Row

STAGES = ("decode", "pre-process", "inference", "post-process")


def look(package: Path, film: Path, numbers: Collection[int], batch: int) -> Row:
    """What a package says of some frames of a film, and processor milliseconds of each stage for a frame of the film."""
    runner, wanted = Runner(package), set(numbers)
    spent, at = np.zeros(len(STAGES)), time.process_time()

    def tick(stage: int) -> None:
        nonlocal at
        before, at = at, time.process_time()
        spent[stage] += at - before

    total = 0
    labels: dict[int, str] = {}
    waiting: list[tuple[int, Prepared]] = []
    video = cv2.VideoCapture(str(film))
    while (there := video.grab()) or waiting:
        pixels = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB) if there and total in wanted else None
        tick(0)
        if pixels is not None:
            waiting.append((total, runner.prepare(np.asarray(pixels, np.uint8))))
            tick(1)
        if waiting and (len(waiting) == batch or not there):
            outputs = runner.infer([prepared.array for _, prepared in waiting])
            tick(2)
            results = runner.read(outputs, [prepared for _, prepared in waiting])
            for (number, _), result in zip(waiting, results, strict=True):
                assert result.probabilities is not None  # a classifier tells them
                labels[number] = runner.package.classes[int(result.probabilities.argmax())]
            waiting = []
            tick(3)
        total += there
    video.release()
    ms = dict(zip(STAGES, (1000 * spent / total).tolist(), strict=True))
    return {"frames": len(labels), "ms": ms, "fps": round(total / float(spent.sum())), "labels": labels}
