"""Frames that a model might find hard, for the tests of the harvest; run as a script, it harvests until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from curate.edge.harvest.entry import HardFrame
from curate.edge.harvest.ring import Bounds, Ring
from curate.edge.runtime.keeper import FrameContext
from curate.imaging import Pixels
from curate.runner import Result

CLASSES = ("bolt", "nut")
PACKAGE = "parts@1.0.0"
FACTS = {
    "name": "parts",
    "version": "1.0.0",
    "target": "onnx",
    "task": "detect",
    "classes": list(CLASSES),
    "model": "ab" * 32,
}


def picture(seed: int, size: tuple[int, int] = (96, 128)) -> Pixels:
    """A picture unlike any of another seed: blots of light at several scales."""
    random = np.random.default_rng(seed)
    layers = []
    for cells in (4, 9, 23):
        small = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layers.append(np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC), np.float64))
    return np.asarray(np.mean(layers, axis=0), dtype=np.uint8)


def boxes(score: float = 0.5, size: tuple[int, int] = (96, 128)) -> Result:
    """A detector's result: a bolt and a nut."""
    return Result(
        "detect",
        size,
        boxes=np.array([[10.25, 20.0, 30.0, 40.5], [60.0, 10.0, 20.0, 20.0]]),
        labels=np.array([0, 1]),
        scores=np.array([score, score / 2]),
    )


def context(number: int = 0, **values: object) -> FrameContext:
    """What is known of a frame of a camera."""
    said = {
        "source": "camera:0",
        "name": f"frame_{number:06d}",
        "number": number,
        "seconds": number / 25,
        "time": 1_700_000_000.0 + number / 25,
        "package": PACKAGE,
        "uncertainty": 0.8,
    }
    return FrameContext(**{**said, **values})  # type: ignore[arg-type]


def hard_frame(seed: int, reason: str = "unsure", value: float = 0.8) -> HardFrame:
    """A frame to keep."""
    return HardFrame(picture(seed), boxes(), context(seed), {reason: value})


def main() -> None:
    """Harvest for ever, and tell of each entry once it is kept."""
    folder, bounds = Path(sys.argv[1]), Bounds(int(sys.argv[2]), int(sys.argv[3]))
    with Ring(folder, bounds=bounds) as ring:
        ring.add_package(PACKAGE, FACTS)
        seed = len(ring)
        frames = [hard_frame(number, ("unsure", "drift")[number % 2]) for number in range(seed, seed + 8)]
        while True:
            print(ring.put(frames[seed % 8]), flush=True)
            seed += 1


if __name__ == "__main__":
    main()
