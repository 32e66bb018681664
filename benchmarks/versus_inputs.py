"""What the contenders of `benchmarks.versus` work on, and how fast this machine does the simplest things."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.embed import SIZES, natural_noise
from benchmarks.fiftyone_sync import write_data
from benchmarks.label_errors_scale import simulate_probabilities
from benchmarks.pairs_search import make_vectors
from benchmarks.planted_boxes import SHARE
from benchmarks.simulated_detector import QUALITIES, place, simulate
from benchmarks.versus_files import LABELS, SMALL, curate

BOXES: Final = 8.5
"""Mean number of boxes on an image."""
CLASSES: Final = 100
DIMENSIONS: Final = 256
FEW: Final = 20


def nothing(folder: Path, size: int) -> None:
    """For what needs no input."""


def coco(folder: Path, size: int) -> None:
    """A COCO file with that many images, and a small one."""
    for name, count, seed in ((LABELS, size, 0), (SMALL, FEW, 1)):
        write_data(folder / name, count, BOXES, seed)
        (folder / name).parents[1].joinpath("images").symlink_to("annotations")  # where Datumaro looks


def imported(folder: Path, size: int) -> None:
    """The same, imported as the datasets 'large' and 'small'."""
    coco(folder, size)
    _imported(folder, {"large": folder / LABELS, "small": folder / SMALL}, "coco")


def pictures(folder: Path, size: int) -> None:
    """Pictures of 640 x 480, as JPEGs with the spectrum of photographs, as the dataset 'large'; five as 'small'."""
    _pictures(folder, size)
    _imported(folder, {"large": folder / "pictures", "small": folder / "few"}, "auto")


def embedding(folder: Path, size: int) -> None:
    """The same pictures as the dataset that `benchmarks.embed_methods` wants."""
    _pictures(folder, size)
    _imported(folder, {"bench": folder / "pictures"}, "auto")
    (folder / "home" / "cache").mkdir(exist_ok=True)


def vectors(folder: Path, size: int) -> None:
    """Vectors with a falling spectrum, a tenth near copies of others."""
    np.save(folder / "vectors.npy", make_vectors(size, DIMENSIONS, "falling", np.random.default_rng(0)))


def labels(folder: Path, size: int) -> None:
    """Labels and out-of-fold probabilities of 100 classes."""
    simulate_probabilities(size, CLASSES, folder)


def boxes(folder: Path, size: int) -> None:
    """Ten boxes an image with 5% wrong classes, and what a mediocre detector says."""
    rng = np.random.default_rng(0)
    from curate.checks.boxes import Boxes

    n = 10 * size
    sizes = np.tile([640.0, 480.0], (size, 1))
    image = rng.integers(0, size, n)
    clean = Boxes(image, place(rng.gamma(2.0, 25.0, (n, 2)) + 4, sizes[image], rng), rng.integers(0, 80, n))
    said = simulate(clean, sizes, QUALITIES["mediocre"], rng)
    truth = replace(clean, label=np.where(rng.random(n) < SHARE, rng.integers(0, 80, n), clean.label))
    np.savez(
        folder / "boxes.npz",
        **{f"truth_{name}": getattr(truth, name) for name in ("image", "bbox", "label")},
        **{name: getattr(said, name) for name in ("image", "bbox", "label", "score")},
        sizes=sizes,
    )


def _pictures(folder: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    width, height = SIZES["640 x 480"]
    scene = natural_noise(4 * width, 4 * height, rng)
    for number in range(size):
        shifted = np.roll(scene, rng.integers(0, 4 * height, 2).tolist(), axis=(0, 1))[:height, :width]
        for name in ("pictures", "few") if number < 5 else ("pictures",):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(shifted).save(folder / name / f"{number:06d}.jpg", quality=90)


def _imported(folder: Path, sources: dict[str, Path], format: str) -> None:
    before = os.environ.get("CURATE_HOME")
    os.environ["CURATE_HOME"] = str(folder / "home")
    try:
        for name, source in sources.items():
            curate("import", str(source), "-d", name, "-f", format)
    finally:
        os.environ.pop("CURATE_HOME")
        if before is not None:
            os.environ["CURATE_HOME"] = before


def rates() -> dict[str, float]:
    """What one thread of this machine does in a second: the best of five tries each.

    Returns:
        GB read from memory, 10^9 float32 operations of a matrix product, MB of COCO's JSON parsed, and megapixels of
        JPEG decoded.
    """
    import cv2
    import msgspec
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    numbers = rng.random(1 << 27, dtype=np.float32)
    matrix = rng.random((2048, 2048), dtype=np.float32)
    entry = {"category_id": 1, "bbox": [1.5, 2.25, 30.1, 40.7], "iscrowd": 0}
    entries = [{"id": k, "image_id": k, **entry} for k in range(50_000)]
    text = msgspec.json.encode(entries)
    with io.BytesIO() as file:
        Image.fromarray(natural_noise(*SIZES["640 x 480"], rng)).save(file, "JPEG", quality=90)
        picture = np.frombuffer(file.getvalue(), np.uint8)
    with threadpool_limits(1):
        return {
            "memory_gb": round(numbers.nbytes / 1e9 / _best(numbers.max), 1),
            "matmul_gflop": round(2 * 2048**3 / 1e9 / _best(lambda: matrix @ matrix), 1),
            "json_mb": round(len(text) / 1e6 / _best(lambda: msgspec.json.decode(text)), 1),
            "jpeg_mp": round(640 * 480 / 1e6 / _best(lambda: cv2.imdecode(picture, cv2.IMREAD_COLOR)), 1),
        }


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    print(rates())
