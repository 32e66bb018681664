"""The parts of predicting that `benchmarks.predict` measures, each run in a process of its own.

    python -m benchmarks.predict_methods REQUEST

The request is a JSON object: method, model (a spec, or 'crowd' for a predictor that finds twenty objects on any picture), folder
and cores. The last line printed is one too: how many pictures, the seconds that they took, of the processor and on the clock,
and the largest resident memory. Imports, loading the model and a first batch come before.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.usage import cpu_seconds, peak_mb
from curate.dataset.store import begin
from curate.engine.local import default_threads
from curate.formats.importing import import_source
from curate.imaging import Pixels, load_pixels
from curate.models.predictors.base import Objects, Prediction, Predictor, Task
from curate.models.predictors.class_names import match_classes
from curate.models.predictors.layers import predict_dataset
from curate.models.predictors.predict_pass import default_batch
from curate.models.predictors.registry import load_predictor

Work = Callable[[], int]
"""What is measured; says how many pictures it predicted on."""

DATASET: Final = "bench"
LAYER: Final = "predictions/bench"
FOUND: Final = 20


class Crowd:
    """Twenty objects of twenty classes on any picture."""

    name = "crowd@1"
    task: Task = "detect"
    classes: tuple[str, ...] = tuple(f"class {number}" for number in range(FOUND))
    input_size: int | None = 32

    def prepare(self, pixels: Pixels) -> tuple[int, int]:
        """The picture's size."""
        return pixels.shape[0], pixels.shape[1]

    def predict(self, prepared: Sequence[tuple[int, int]]) -> list[Prediction]:
        """The same objects on each."""
        boxes = np.tile([1.0, 2.0, 8.0, 8.0], (FOUND, 1))
        probabilities = np.full((FOUND, FOUND), 1 / FOUND, np.float32)
        return [Objects(size, boxes, np.arange(FOUND), np.linspace(1, 0.1, FOUND), probabilities) for size in prepared]


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    folder = Path(request["folder"])
    if request["method"] == "import":  # what comes before predicting; not measured
        import_source(DATASET, folder, command="benchmark")
        return
    predictor: Predictor = Crowd() if request["model"] == "crowd" else load_predictor(request["model"])
    paths = sorted(folder.rglob("*.jpg"))
    some = [_prepare(predictor, path) for path in paths[: default_batch(predictor.input_size)]]
    predictor.predict(some)
    work = METHODS[request["method"]](predictor, paths, some)
    before, began, peak_before = cpu_seconds(), time.perf_counter(), peak_mb()
    images = work()
    measured = {"images": images, "cpu_s": cpu_seconds() - before, "wall_s": time.perf_counter() - began}
    print(json.dumps({**measured, "before_mb": peak_before, "peak_mb": peak_mb()}))


def model_alone(predictor: Predictor, paths: Sequence[Path], some: Sequence[Any]) -> Work:
    """All pictures, prepared and in memory."""
    prepared = [_prepare(predictor, path) for path in paths]

    def work() -> int:
        for start in range(0, len(prepared), len(some)):
            predictor.predict(prepared[start : start + len(some)])
        return len(prepared)

    return work


def before_model(predictor: Predictor, paths: Sequence[Path], some: Sequence[Any]) -> Work:
    """From files to what the model takes."""

    def work() -> int:
        with ThreadPoolExecutor(default_threads()) as pool:
            return sum(1 for _ in pool.map(partial(_prepare, predictor), paths))

    return work


def curate(predictor: Predictor, paths: Sequence[Path], some: Sequence[Any], *, most: int | None = None) -> Work:
    """The pass of `curate predict`: from files to a commit.

    Args:
        predictor: What predicts.
        paths: Of all pictures.
        some: Not used.
        most: How many of them are predicted on; None for all.
    """

    def predict(rows: slice) -> int:
        with begin(DATASET, command="benchmark") as transaction:
            ids = transaction.read("images", columns=["image_id"])["image_id"].to_pylist()[rows]
            mapping = match_classes(predictor.classes, predictor.classes)
            return predict_dataset(transaction, predictor, layer=LAYER, ids=ids, mapping=mapping).predicted

    with begin(DATASET, command="benchmark") as transaction:
        transaction.classes = [{"name": name} for name in predictor.classes]
    predict(slice(1))  # makes the tables, and loads what a first commit loads
    return lambda: predict(slice(1, None if most is None else 1 + most))


METHODS: Final[dict[str, Callable[[Predictor, Sequence[Path], Sequence[Any]], Work]]] = {
    "model": model_alone,
    "decoded and prepared": before_model,
    "curate": curate,
    "commit of one": partial(curate, most=1),
}


def _prepare(predictor: Predictor, path: Path) -> Any:
    """As curate's pass does it."""
    return predictor.prepare(load_pixels(path, shortest_side=predictor.input_size))


if __name__ == "__main__":
    main()
