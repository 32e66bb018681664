"""Real images and synthetic ones are told apart by what their metadata say, not by words that look like it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from curate.dataset import begin, open_dataset
from curate.dataset.schema import IMAGES
from curate.dataset.synthetic import (
    is_learnt_from,
    is_synthetic,
    parent_ids,
    real_only,
    speaks_of_synthetic,
    synthetic_metadata,
)

MADE = synthetic_metadata(["00"], {"recipe": "night"})
ALIKE = (
    json.dumps({"note": 'a "synthetic" fibre', "parents": ["who"]}),
    json.dumps({"camera": {"synthetic": True, "parents": 2}}),
    json.dumps({"synthetic": "yes", "parents": []}),
    json.dumps({"synthetic": {"by": "parents"}}),
)


def make(*metadata: str | None) -> None:
    rows = [
        {"image_id": f"{k:016x}", "location": f"synthetic/{k}.png", "split": "synthetic", "metadata": each}
        for k, each in enumerate(metadata)
    ]
    with begin("set", command="make", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(rows, schema=IMAGES)])


def chosen(where: str | None) -> list[int]:
    dataset = open_dataset("set")
    ids = dataset.table("images", columns=["image_id"], where=real_only(dataset, where))["image_id"].to_pylist()
    return sorted(int(each, 16) for each in ids)


def test_what_only_looks_synthetic_is_real() -> None:
    make(None, MADE, *ALIKE)
    images = open_dataset("set").table("images").sort_by("image_id")
    assert np.flatnonzero(is_synthetic(images)).tolist() == [1]
    assert parent_ids(images) == [(), ("00",), (), (), (), ()]
    assert chosen(None) == [0, 2, 3, 4, 5]


def test_without_synthetic_images_a_condition_stays_as_it_is() -> None:
    make(None, *ALIKE)
    dataset = open_dataset("set")
    assert real_only(dataset, None) is None
    assert real_only(dataset, "width > 3") == "width > 3"


@pytest.mark.parametrize(
    ("where", "speaks"),
    [
        ("array_has(tags, 'synthetic')", True),
        ("split = 'train' AND NOT array_has( tags ,'synthetic')", True),
        ("array_has_any(tags, ['night', 'synthetic'])", True),
        ("array_has_any(tags, make_array('night', 'synthetic'))", True),
        ("array_has(tags, 'augment:night')", True),
        ("metadata LIKE '%\"synthetic\"%'", True),
        ("metadata not like '%\"synthetic\": {%'", True),
        ("split = 'synthetic'", False),
        ("location LIKE 'synthetic/%'", False),
        ("array_has(tags, 'not synthetic')", False),
        ("array_has(tags, 'photosynthetic')", False),
        ("location = 'tags, ''synthetic'''", False),
        ("metadata LIKE '%synthetic fibre%'", False),
    ],
)
def test_a_condition_speaks_of_synthetic_images_by_tags_or_metadata(where: str, speaks: bool) -> None:
    assert speaks_of_synthetic(where) == speaks


def test_a_split_or_folder_of_that_name_does_not_let_synthetic_images_in() -> None:
    make(None, MADE)
    assert chosen("split = 'synthetic'") == [0]
    assert chosen("location LIKE 'synthetic/%'") == [0]
    assert chosen("metadata LIKE '%\"synthetic\"%'") == [1]


@pytest.mark.parametrize(
    ("split", "learnt"),
    [("train", True), ("Training", True), ("coco_train2017", True), ("trainval", True), ("train-val", False),
     ("val", False), ("constrained", False), ("extra", False), (None, False)],
)  # fmt: skip
def test_splits_to_learn_from_are_known_by_a_word(split: str | None, learnt: bool) -> None:
    assert is_learnt_from(split) == learnt
