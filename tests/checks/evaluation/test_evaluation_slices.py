"""Parts of the images, by what the images table and slices that were found say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.evaluation.slices import MOST, read_slices, split_list
from curate.checks.shift.stored import Slice, store_slices
from curate.dataset import Dataset, begin, open_dataset
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES
from curate.errors import UsageError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["split,tag:night"], ["split", "tag:night"]),
        (["width > 5, height < 3", "split"], ["width > 5", "height < 3", "split"]),
        (["array_has(tags, 'a,b'), split,,split"], ["array_has(tags, 'a,b')", "split"]),
        (["location = 'it''s, here'"], ["location = 'it''s, here'"]),
        ([], []),
    ],
)
def test_lists_are_taken_apart_at_commas_outside_of_brackets_and_quotes(given: list[str], wanted: list[str]) -> None:
    assert split_list(given) == wanted


@pytest.mark.parametrize("text", ["f(a", "location = 'x", "a) or (b"])
def test_what_is_not_closed_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="not closed"):
        split_list([text])


def made(count: int = 6) -> tuple[Dataset, pa.Array]:
    """Images of two splits, three of them tagged, in groups of two."""
    ids = image_ids(f"{k}.jpg" for k in range(count))
    columns: dict[str, Any] = {
        "image_id": ids,
        "location": [f"{k}.jpg" for k in range(count)],
        "width": [100 * k for k in range(count)],
        "split": ["val" if k % 2 else "train" for k in range(count)],
        "tags": [["night", "rain"] if k < 2 else ["night"] if k == 2 else None for k in range(count)],
        "group": [f"it's {k // 2}" for k in range(count)],
    }
    table = pa.table(
        [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type) for f in IMAGES],
        schema=IMAGES,
    )
    with begin("set", command="test", create=True) as transaction:
        transaction.append("images", [table])
        dark = Slice("dark, warm", "light", ids.take(pa.array([1, 3])), fails=True)
        store_slices(transaction, [dark, Slice("bright", "axis", ids.take(pa.array([0, 2])))])
    return open_dataset("set"), ids


@pytest.mark.parametrize(
    ("wanted", "inside"),
    [
        ("split", {"split:train": [0, 2, 4], "split:val": [1, 3]}),
        ("tags", {"tag:night": [0, 1, 2], "tag:rain": [0, 1]}),
        ("tag:rain", {"tag:rain": [0, 1]}),
        ("group", {"group:it's 0": [0, 1], "group:it's 1": [2, 3], "group:it's 2": [4]}),
        ("group:it's 1", {"group:it's 1": [2, 3]}),
        ("shift", {"slice:dark, warm": [1, 3]}),
        ("slice:dark_warm", {"slice:dark, warm": [1, 3]}),
        ("slice:bright", {"slice:bright": [0, 2]}),
        ("width > 250", {"width > 250": [3, 4]}),
    ],
)
def test_slices_of_five_images(wanted: str, inside: dict[str, list[int]]) -> None:
    dataset, ids = made()
    found = read_slices(dataset, ids.slice(0, 5), [wanted], [])
    assert {name: np.flatnonzero(each).tolist() for name, each in found.items()} == inside


def test_slices_without_an_image_are_told_and_left_out() -> None:
    dataset, ids = made()
    notes: list[str] = []
    assert read_slices(dataset, ids.slice(0, 2), ["width > 400", "tag:snow"], notes) == {}
    assert notes == [
        "slice width > 400: none of the images that are evaluated",
        "slice tag:snow: none of the images that are evaluated",
    ]


def test_an_unknown_slice_is_told_with_those_there_are() -> None:
    dataset, ids = made()
    with pytest.raises(UsageError, match=r"--slices 'slice:blue': there is no slice 'blue' .near ones: dark, bright;"):
        read_slices(dataset, ids, ["slice:blue"], [])


def test_too_many_values_are_told() -> None:
    dataset, ids = made(2 * MOST + 2)
    with pytest.raises(UsageError, match="101 different groups") as caught:
        read_slices(dataset, ids, ["group"], [])
    assert caught.value.remedy == "name those of interest: group:it's 0"


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    dataset, ids = made()
    with pytest.raises(UsageError) as caught:
        read_slices(dataset, ids, ["weather = 'rain'"], [])
    assert caught.value.where == "--slices \"weather = 'rain'\""
    assert "tag:NAME" in (caught.value.remedy or "")
    assert "width" in (caught.value.remedy or "")
