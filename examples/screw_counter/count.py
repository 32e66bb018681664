"""Count what passes, frame by frame, with numpy, Pillow and onnxruntime alone: python count.py PACKAGE FILM.avi

It needs neither curate nor a video library: the package brings its own runner, and Motion JPEG is one JPEG file after another.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

STAGES = ("decode", "pre-process", "inference", "post-process")
BEGINS = 0.5  # the score from which a thing begins a track
PATIENCE = 5  # frames for which one that is not found is kept


def main(package: str, film: str) -> None:
    """Print the frames with crossings, and what each stage took: milliseconds of this thread's processor time."""
    sys.path.insert(0, package)  # beside the model lies runner.py
    runner = importlib.import_module("runner").Runner(package)
    counter = Counter()
    spent = np.zeros(len(STAGES))
    crossings, frames, began = [], 0, time.perf_counter()
    for number, jpeg in enumerate(pictures(Path(film))):
        at = [time.thread_time()]
        pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        at.append(time.thread_time())
        prepared = runner.prepare(pixels)
        at.append(time.thread_time())
        outputs = runner.infer([prepared.array])
        at.append(time.thread_time())
        (result,) = runner.read(outputs, [prepared])
        crossings += [number] * counter.update(result.boxes[result.scores >= BEGINS], pixels.shape[1] / 2)
        at.append(time.thread_time())
        spent, frames = spent + np.diff(at), number + 1
    told = {
        "count": len(crossings),
        "crossings": crossings,
        "frames": frames,
        "ms": dict(zip(STAGES, (1000 * spent / frames).round(3).tolist(), strict=True)),
        "fps": round(frames / float(spent.sum()), 1),
        "fps_by_the_clock": round(frames / (time.perf_counter() - began), 1),
        "packages": sorted({"PIL", "cv2", "curate", "numpy", "onnxruntime", "scipy", "torch"} & sys.modules.keys()),
    }
    print(json.dumps(told))


def pictures(film: Path) -> Iterator[bytes]:
    """The JPEG files in a film, in order."""
    for found in re.finditer(rb"\xff\xd8\xff.*?\xff\xd9", film.read_bytes(), re.DOTALL):
        yield found[0]


class Counter:
    """Follows things that move one way, and counts those that pass a line: enough for one belt."""

    def __init__(self) -> None:
        self.tracks: list[dict[str, float]] = []

    def update(self, boxes: npt.NDArray[np.float64], line: float) -> int:
        """Take in [x, y, width, height] of the next frame's things; how many are now beyond the line."""
        passed = 0
        free = sorted((x + wide / 2, wide) for x, _, wide, _ in boxes)
        for track in self.tracks:
            track["unseen"] += 1
            expected = track["x"] + track["speed"] * track["unseen"]
            nearest = min(free, key=lambda each: abs(each[0] - expected), default=None)
            if nearest is None or abs(nearest[0] - expected) > nearest[1] / 2:
                continue
            free.remove(nearest)
            track["speed"] += 0.3 * ((nearest[0] - track["x"]) / track["unseen"] - track["speed"])
            passed += track["x"] <= line < nearest[0]
            track["x"], track["unseen"] = nearest[0], 0
        self.tracks = [track for track in self.tracks if track["unseen"] <= PATIENCE]
        self.tracks += [{"x": middle, "speed": 0.0, "unseen": 0} for middle, _ in free]
        return passed


if __name__ == "__main__":
    main(*sys.argv[1:3])
