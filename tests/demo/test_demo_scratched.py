"""Surfaces: defects where the masks say, areas in mm2, wrong masks as planted and only where nothing is measured."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.demo import MM_PER_PIXEL, ScratchedSet, make_scratched, render_surface
from curate.demo.pictures import decode_mask
from curate.demo.scratched import WRONG_MASKS
from curate.errors import UsageError


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> ScratchedSet:
    return make_scratched(
        tmp_path_factory.mktemp("plates") / "set", {"train": 40, "test": 12}, side=96, wrong=0.4, seed=2
    )


def rows(plates: ScratchedSet, split: str) -> dict[str, list[dict[str, Any]]]:
    """The annotation file's rows by image file."""
    value = json.loads((plates.root / "annotations" / f"instances_{split}.json").read_bytes())
    names = {image["id"]: image["file_name"] for image in value["images"]}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for row in value["annotations"]:
        found[names[row["image_id"]]].append(row)
    return found


def test_what_is_right_is_labelled_as_it_is_and_what_is_wrong_is_not(plates: ScratchedSet) -> None:
    kinds: Counter[str | None] = Counter()
    for split in ("train", "test"):
        given = rows(plates, split)
        for surface in (each for each in plates.surfaces if each.split == split):
            labelled = iter(given[surface.file])
            for defect in surface.defects:
                kinds[defect.wrong] += 1
                if defect.wrong == "missing":
                    continue
                row = next(labelled)
                name = ("scratch", "dent")[row["category_id"] - 1]
                assert (name == defect.label) is (defect.wrong != "mislabeled")
                same = row["segmentation"]["counts"] == defect.counts
                assert same is (defect.wrong in (None, "mislabeled"))
                area = decode_mask(row["segmentation"]["counts"], 96, 96).sum()
                if defect.wrong in ("eroded", "dilated"):
                    assert bool(area < decode_mask(defect.counts, 96, 96).sum()) is (defect.wrong == "eroded")
            assert next(labelled, None) is None
            assert split == "train" or all(defect.wrong is None for defect in surface.defects)
    assert set(kinds) == {None, *WRONG_MASKS}


def test_areas_are_in_square_millimetres(plates: ScratchedSet) -> None:
    for surface in plates.surfaces:
        for defect in surface.defects:
            pixels = int(decode_mask(defect.counts, surface.side, surface.side).sum())
            assert defect.area_mm2 == pytest.approx(pixels * MM_PER_PIXEL**2, abs=1e-4)


def test_a_third_is_sound_and_both_kinds_of_defects_are_there(plates: ScratchedSet) -> None:
    sound = sum(not surface.defects for surface in plates.surfaces)
    assert 8 <= sound <= 30
    assert {defect.label for surface in plates.surfaces for defect in surface.defects} == {"scratch", "dent"}


def test_a_defect_is_seen_where_its_mask_is() -> None:
    for seed in range(8):
        damaged, found, _ = render_surface("ring", np.random.default_rng(seed), defects=1)
        steps = np.abs(np.diff(damaged.astype(float).mean(axis=2), axis=1))
        for _, mask in found:
            assert steps[mask[:, 1:]].mean() > 1.5 * steps[~mask[:, 1:]].mean()
    assert render_surface("dim", np.random.default_rng(1), defects=0)[1] == []


def test_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    one, two = (
        make_scratched(tmp_path / str(n), {"train": 6}, side=64, wrong=0.5, seed=1, workers=n).root for n in (1, 2)
    )
    for path in (path for path in one.rglob("*") if path.is_file()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    with pytest.raises(UsageError, match="not empty"):
        make_scratched(one, {"train": 1})
