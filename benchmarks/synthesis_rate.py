"""How fast new images are made, against albumentations alone: the same recipe, the same images, the same encoder.

`curate augment`'s worker reads a parent, changes it and its labels (boxes and masks), encodes it as its parent was, and writes
the file and the rows of its labels. The peer is `albumentations.Compose` and the same encoder, on pixels that were decoded and
masks that were drawn before the clock starts; it writes nothing. CPU seconds of one thread; they take turns, and the medians
are compared, also for the whole run of the library that the command calls: planning, checking the new images, storing them.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest.mock import patch

import cv2
import numpy as np

from curate.augment.encoding import Encoding, encode, encoding_of
from curate.augment.labels import mask_of
from curate.augment.making import Job, Maker
from curate.augment.request import Request
from curate.augment.run import augment, plan_images, understand
from curate.demo import NONE, make_parts
from curate.formats.importing import import_source
from curate.imaging import Pixels, load_pixels
from curate.recipes import Recipe, Step, named_recipe, write_recipe

_JITTER: Final = Step(
    "ColorJitter",
    {"brightness": [0.6, 1.4], "contrast": [0.6, 1.4], "saturation": [0.6, 1.4], "hue": [-0.1, 0.1]},
)
_AFFINE: Final = Step("Affine", {"scale": [0.9, 1.1], "rotate": [-10, 10], "translate_percent": [-0.05, 0.05]})
_PARENTS: Final = 40
_SEED: Final = 0
_DATASET: Final = "parts"


@dataclass(frozen=True)
class _Given:
    """What the peer is given of one job: pixels, corners of boxes, masks, and how its file is encoded."""

    pixels: Pixels
    corners: list[list[float]]
    masks: list[Any]
    encoding: Encoding


def synthesis_rates(repeats: int, images: int) -> list[dict[str, Any]]:
    """CPU milliseconds for an image, by recipe.

    Args:
        repeats: Times that each takes its turn.
        images: How many are made at each turn.
    """
    recipes = [
        Recipe("colours", (_JITTER,)),
        named_recipe("night"),
        Recipe("moved", (Step("HorizontalFlip", p=0.5), _AFFINE, _JITTER)),
    ]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"CURATE_HOME": f"{folder}/home"}):
            parts = make_parts(Path(folder) / "parts", images=_PARENTS, seed=_SEED, faults=NONE)
            import_source(_DATASET, parts.root, command="benchmark")
            return [_compare(recipe, Path(folder), repeats, images) for recipe in recipes]
    finally:
        cv2.setNumThreads(threads)


def _compare(recipe: Recipe, folder: Path, repeats: int, images: int) -> dict[str, Any]:
    path = folder / f"{recipe.name}.yaml"
    write_recipe(recipe, path)
    request = Request(recipe=str(path), count=images, seed=_SEED)
    planned = plan_images(understand(_DATASET, request, report=_silent))
    planned.maker.folder.mkdir(parents=True, exist_ok=True)
    given = {job.parent.image_id: _decoded(job) for job in planned.jobs}
    peer = _load(path)
    turns: dict[str, Callable[[], None]] = {
        "curate": lambda: _make(planned.maker, planned.jobs),
        "albumentations": lambda: _peer(peer, planned.jobs, given, decode=False),
        "with decoding": lambda: _peer(peer, planned.jobs, given, decode=True),
    }
    for turn in turns.values():  # what is made on first use
        turn()
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            seconds[name].append(_cpu(turn))
    intent = understand(_DATASET, request, report=_silent)
    whole = _cpu(lambda: _run(intent))
    each = {name: 1000 * median(values) / len(planned.jobs) for name, values in seconds.items()}
    return {
        "recipe": recipe.name,
        "images": len(planned.jobs),
        **{f"{name} ms": round(value, 3) for name, value in each.items()},
        "command ms": round(1000 * whole / len(planned.jobs), 3),
    }


def _run(intent: Any) -> None:
    augment(intent, command="benchmark", report=_silent, workers=1)


def _make(maker: Maker, jobs: Sequence[Job]) -> None:
    for job in jobs:
        made = maker(job)
        assert made.image is not None, made.reason
        json.dumps(made.annotations)  # as the run keeps them until the commit


def _peer(pipeline: Any, jobs: Sequence[Job], given: dict[str, _Given], *, decode: bool) -> None:
    for number, job in enumerate(jobs):
        one = given[job.parent.image_id]
        pixels = load_pixels(job.parent.path) if decode else one.pixels
        pipeline.set_random_state(np.random.default_rng(number), random.Random(number))
        rows = list(range(len(one.corners)))
        found = pipeline(image=pixels, bboxes=np.array(one.corners), rows=rows, masks=one.masks)
        encode(found["image"], one.encoding)


def _decoded(job: Job) -> _Given:
    parent = job.parent
    boxes = [label.shape.bbox for label in parent.labels]
    corners = [[x, y, x + w, y + h] for x, y, w, h in (box for box in boxes if box is not None)]
    masks = [mask_of(label.shape, parent.height, parent.width) for label in parent.labels]
    drawn = [mask.astype(np.uint8) for mask in masks if mask is not None]
    return _Given(load_pixels(parent.path), corners, drawn, encoding_of(parent.path))


def _load(path: Path) -> Any:
    """The file as albumentations itself reads it, with boxes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import albumentations

        loaded = albumentations.load(path, data_format="yaml")
        boxes = albumentations.BboxParams(format="pascal_voc", label_fields=["rows"], clip=True, min_visibility=0.0)
        return albumentations.Compose(loaded.transforms, bbox_params=boxes)


def _cpu(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _silent(done: int, total: int, text: str) -> None:
    pass
