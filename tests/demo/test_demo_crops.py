"""Batches of single parts: as many of each class and lamp as asked, wrong labels and copies as told, the same every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.demo import Batch, CropsSet, load_crops, make_crops, render_crop
from curate.demo.render import PART_LABELS
from curate.errors import UsageError
from curate.imaging import load_pixels

TRAIN = Batch("train", 60, mislabeled=0.2, duplicates=0.1)
DIM = Batch("production", 20, classes={"bolt": 3, "nut": 1}, lamps={"dim": 1})


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropsSet:
    return make_crops(tmp_path_factory.mktemp("crops") / "set", [TRAIN, DIM], side=48, seed=3)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_as_many_as_asked(crops: CropsSet) -> None:
    train = [crop for crop in crops.crops if crop.batch == "train"]
    own = [crop for crop in train if crop.copy_of is None]
    assert (len(train), len(own)) == (60, 54)
    assert sum(crop.label != crop.given for crop in own) == round(0.2 * 54)
    assert set(Counter(crop.label for crop in own).values()) <= {10, 11}
    production = Counter(crop.label for crop in crops.crops if crop.batch == "production")
    assert production == {"bolt": 15, "nut": 5}
    assert {crop.lamp for crop in crops.crops if crop.batch == "production"} == {"dim"}


def test_a_picture_lies_in_the_folder_of_the_class_it_is_given(crops: CropsSet) -> None:
    on_disk = {path.relative_to(crops.root / "images").as_posix() for path in crops.root.rglob("*.jpg")}
    assert on_disk == {crop.file for crop in crops.crops}
    assert all(crop.file.split("/")[:2] == [crop.batch, crop.given] for crop in crops.crops)
    assert crops.mislabeled() == {
        f"{crop.given}/{crop.file.split('/')[2]}": crop.label for crop in crops.crops if crop.label != crop.given
    }
    assert load_crops(crops.root) == crops


def test_copies_are_copies(crops: CropsSet) -> None:
    label = {crop.file: (crop.label, crop.given) for crop in crops.crops}
    equal = 0
    for crop in crops.crops:
        if crop.copy_of is not None:
            assert label[crop.file] == label[crop.copy_of]
            one, other = (load_pixels(crops.root / "images" / name) for name in (crop.file, crop.copy_of))
            equal += bool((one == other).all())
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
    assert 0 < equal < 6


def test_the_same_for_any_number_of_workers_and_whatever_other_batches_there_are(
    crops: CropsSet, tmp_path: Path
) -> None:
    make_crops(tmp_path / "again", [DIM], side=48, seed=3, workers=1)
    make_crops(tmp_path / "other", [DIM], side=48, seed=4)
    mine, other = files(tmp_path / "again"), files(tmp_path / "other")
    first = files(crops.root)
    pictures = [name for name in mine if name.endswith(".jpg")]
    assert len(pictures) == 20
    assert all(mine[name] == first[name] for name in [*pictures, "annotations/instances_production.json"])
    assert not set(mine.values()) & {other[name] for name in other if name.endswith(".jpg")}


def test_lamps_differ_in_brightness_and_masks_are_where_the_part_is() -> None:
    means = {}
    for lamp in ("ring", "dim"):
        drawn = [render_crop(label, lamp, np.random.default_rng(k)) for k, label in enumerate(PART_LABELS * 3)]
        means[lamp] = float(np.mean([pixels.mean() for pixels, _ in drawn]))
        for pixels, mask in drawn:
            assert pixels.shape == (96, 96, 3)
            assert mask.shape == (96, 96)
            assert 0.03 < mask.mean() < 0.75
            rows, columns = np.nonzero(mask)
            assert abs(rows.min() + rows.max() - 95) < 40
            assert abs(columns.min() + columns.max() - 95) < 40
    assert means["ring"] > 1.3 * means["dim"]


def test_a_weaker_and_warmer_lamp_is_seen_as_such(tmp_path: Path) -> None:
    plain = Batch("a", 6, lamps={"ring": 1})
    make_crops(tmp_path / "day", [plain], side=48)
    make_crops(tmp_path / "lamp", [replace(plain, exposure=0.4, white=(1.2, 1.0, 0.5))], side=48)
    day, lamp = (
        np.mean([load_pixels(path).mean(axis=(0, 1)) for path in (tmp_path / name).rglob("*.jpg")], axis=0)
        for name in ("day", "lamp")
    )
    assert (lamp < 0.85 * day).all()
    assert lamp[0] / lamp[2] > 1.3 * day[0] / day[2]


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([Batch("a", 2), Batch("a", 3)], "two batches"),
        ([Batch("a", 2, lamps={"moon": 1})], "moon"),
        ([Batch("a", 2, classes={"cat": 1})], "cat"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, batches: list[Batch], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_crops(tmp_path / "set", batches)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_is_not_empty_is_left_alone(crops: CropsSet) -> None:
    with pytest.raises(UsageError, match="not empty"):
        make_crops(crops.root, [TRAIN])
