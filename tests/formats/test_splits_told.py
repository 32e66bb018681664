"""Splits with names of their own: a format keeps them, or its writer says which ones it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import CLASSES, Case, make_export, read

from curate.formats.base import WriteOptions
from curate.formats.losses import PLACES_KEPT, LossReport
from curate.formats.registry import FORMATS

SPLITS = ["train", "val", "dusk_test", "valid", "v1.2", "train_night", "default", "a/b", "a_b", "Val", "path"]
KEPT = {"coco"}


@pytest.mark.parametrize(
    "name",
    [
        "coco",
        "yolo",
        "voc",
        "cvat",
        "csv",
        "labelme",
        "label_studio",
        "datumaro",
        "huggingface",
        "masks",
        "imagefolder",
    ],
)
def test_a_split_is_kept_or_told(tmp_path: Path, name: str) -> None:
    box = {"type": "box", "label": CLASSES[0], "bbox": [10.0, 5.0, 30.0, 20.0]}
    cases = [
        Case(
            f"{number}.png", (60, 40), split, [box if name != "imagefolder" else {"type": "label", "label": CLASSES[0]}]
        )
        for number, split in enumerate(SPLITS)
    ]
    kind, target, losses = FORMATS.get(name), tmp_path / "out", LossReport()
    target.mkdir()
    kind.write(make_export(tmp_path / "in", cases), target, WriteOptions(images="copy"), losses)
    images = read(kind, target)[0].images.to_pylist()
    back = {row["location"].rpartition("/")[2]: row["split"] for row in images}
    changed = [split for number, split in enumerate(SPLITS) if back[f"{number}.png"] != split]
    told = [loss for loss in losses.losses if loss.what == "splits"]
    places = {place.partition(" -> ")[0] for loss in told for place in loss.places}
    assert len(changed) == sum(loss.count for loss in told)
    assert set(changed) <= places or len(places) == PLACES_KEPT
    assert name not in KEPT or not changed
