"""Which images were made from others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.dataset import begin, open_dataset
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES
from curate.dataset.synthetic import (
    is_measured_on,
    is_synthetic,
    parent_ids,
    parent_links,
    real_only,
    synthetic_metadata,
)
from curate.errors import UsageError


def images(metadata: list[str | None]) -> pa.Table:
    locations = [f"{k}.png" for k in range(len(metadata))]
    rows = {"image_id": image_ids(locations), "location": locations, "metadata": metadata, "split": "train"}
    return pa.Table.from_pylist(
        [dict(zip(rows, each, strict=True)) for each in zip(
            rows["image_id"].to_pylist(), locations, metadata, ["train"] * len(metadata), strict=True
        )],
        schema=IMAGES,
    )  # fmt: skip


def test_only_images_with_parents_are_synthetic() -> None:
    table = images(
        [None, "{}", '{"synthetic": true}', '{"camera": "synthetic parents"}', synthetic_metadata(["a"], {})]
    )
    assert is_synthetic(table).tolist() == [False, False, False, False, True]


def test_parents_are_told_in_order_and_linked_where_they_are_there() -> None:
    first, second = image_ids(["0.png", "1.png"]).to_pylist()
    table = images([None, None, synthetic_metadata([second, "gone", first], {"recipe": "night"})])
    assert parent_ids(table) == [(), (), (second, "gone", first)]
    assert parent_links(table).tolist() == [[2, 2], [1, 0]]
    assert parent_links(table.slice(0, 2)).shape == (2, 0)


def test_conditions_leave_synthetic_images_out_unless_they_speak_of_them() -> None:
    made = synthetic_metadata(["a"], {})
    with begin("pictures", command="test", create=True) as transaction:
        transaction.append("images", [images([None, '{"a": 1}', made])])
    dataset = open_dataset("pictures")

    def chosen(where: str | None) -> int:
        return dataset.count("images", where=real_only(dataset, where))

    assert dataset.count("images") == 3
    assert chosen(None) == 2
    assert chosen("split = 'train' OR split = 'val'") == 2
    assert chosen("metadata LIKE '%synthetic%'") == 1
    assert real_only(dataset, real_only(dataset, None)) == real_only(dataset, None)
    with pytest.raises(UsageError, match="condition cannot be understood") as caught:
        real_only(dataset, "splitt = 'train'")
    assert "splitt" in str(caught.value.where)
    assert "metadata NOT LIKE" not in str(caught.value.where)


def test_a_dataset_without_any_keeps_its_conditions() -> None:
    with begin("pictures", command="test", create=True) as transaction:
        transaction.append("images", [images([None, None])])
    dataset = open_dataset("pictures")
    assert real_only(dataset, None) is None
    assert real_only(dataset, "width > 3") == "width > 3"


@pytest.mark.parametrize(
    "split", ["val", "Validation", "coco_val2017", "iid-test", "publicTest", "held-out", "minival", "dev"]
)
def test_splits_that_models_are_measured_on(split: str) -> None:
    assert is_measured_on(split)


@pytest.mark.parametrize("split", [None, "", "train", "trainval", "device1", "valves", "evaporator", "contest_a"])
def test_splits_that_are_learnt_from(split: str | None) -> None:
    assert not is_measured_on(split)
