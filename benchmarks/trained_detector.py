"""Out-of-fold predictions of a detector that `curate train --folds` has taught on the very labels that are to be judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import Boxes
from curate.checks.labels import Labels, load_labels, load_predictions
from curate.dataset import open_dataset
from curate.names import GROUND_TRUTH

_NAME: Final = "bench"
_FOLDS: Final = 3
_EPOCHS: Final = {"raccoon": 25, "bccd": 6, "parts_v3": 8}
"""About half of what `curate train` would choose, so that three seeds of all sets take little over an hour of one core."""


def out_of_fold(name: str, labels: Labels, truth: Boxes, seed: int) -> Boxes:
    """Train on some ground truth, and predict every image by the model that has not seen it.

    Args:
        name: Of the set.
        labels: The set: its images and the names of its classes.
        truth: The boxes to learn from, numbered as in `labels`.
        seed: Of the folds and the training.

    Raises:
        CalledProcessError: A command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = os.environ | {"CURATE_HOME": folder}
        paths = labels.images["path"].to_pylist()
        root = os.path.commonpath(paths) if len(paths) > 1 else str(Path(paths[0]).parent)
        source = Path(folder) / "labels.json"
        source.write_text(json.dumps(_coco(labels, truth, root)), encoding="utf-8")
        numbers = {"--folds": _FOLDS, "--epochs": _EPOCHS[name], "--seed": seed}
        for words in (
            ["import", str(source), "--images", root],
            ["train", "--task", "detect", "--empty", *(str(word) for pair in numbers.items() for word in pair)],
        ):
            command = [sys.executable, "-c", "from curate.cli import main; main()", *words, "-d", _NAME]
            subprocess.run(command, env=home, check=True, stdout=subprocess.DEVNULL)
        return _read(labels, folder)


def _coco(labels: Labels, truth: Boxes, root: str) -> dict[str, object]:
    """The ground truth as COCO writes it."""
    sizes, paths = labels.sizes.astype(int).tolist(), labels.images["path"].to_pylist()
    images = [
        {"id": i, "file_name": os.path.relpath(path, root), "width": width, "height": height}
        for i, (path, (width, height)) in enumerate(zip(paths, sizes, strict=True))
    ]
    rows = zip(truth.image.tolist(), truth.bbox.tolist(), truth.label.tolist(), strict=True)
    annotations = [
        {"id": i, "image_id": image, "bbox": bbox, "category_id": label, "area": bbox[2] * bbox[3], "iscrowd": 0}
        for i, (image, bbox, label) in enumerate(rows)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(labels.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _read(labels: Labels, home: str) -> Boxes:
    """The layer that training wrote, with the set's numbers of images and classes."""
    with patch.dict(os.environ, {"CURATE_HOME": home}):
        dataset = open_dataset(_NAME)
        own = load_labels(dataset, GROUND_TRUTH, None)
        (layer,) = load_predictions(dataset, own, None, []).values()
    image = pc.index_in(own.images["path"], labels.images["path"].combine_chunks()).to_numpy()
    number = pc.index_in(pa.array(own.classes), pa.array(labels.classes)).to_numpy()
    boxes = layer.boxes()
    columns = None if boxes.probabilities is None else boxes.probabilities[:, np.argsort(number)]
    return replace(
        boxes,
        image=image[boxes.image].astype(np.int64),
        label=number[boxes.label].astype(np.int64),
        probabilities=columns,
        crowd=None,
        covered=np.arange(len(labels.sizes)),
    )
