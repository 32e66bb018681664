"""Parts of the images that a model is measured on: splits, tags, groups, what `curate shift` found, SQL conditions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import BoolArray
from curate.dataset import Dataset
from curate.dataset.query import quote
from curate.errors import UsageError

MOST: Final = 100
"""Values of a column that are taken apart."""

_COLUMNS: Final = {"split": "split = {}", "group": "`group` = {}", "tag": "array_has(tags, {})"}
_WHOLE: Final = {"splits": "split", "groups": "group", "tags": "tag", "split": "split", "group": "group", "tag": "tag"}
_PLURAL: Final = {"split": "splits", "group": "groups", "tag": "tags"}
_SHIFT: Final = "shift"


def split_list(texts: Iterable[str]) -> list[str]:
    """What `--slices` says, taken apart at commas that are in no brackets and no quotes; each once.

    Raises:
        UsageError: A quote or bracket is open at the end.
    """
    found: list[str] = []
    for text in texts:
        depth, quoted, start = 0, "", 0
        for place, letter in enumerate(text):
            if quoted:
                quoted = "" if letter == quoted else quoted
            elif letter in "'\"":
                quoted = letter
            elif letter in "([":
                depth += 1
            elif letter in ")]":
                depth -= 1
                if depth < 0:
                    break
            elif letter == "," and depth == 0:
                found.append(text[start:place].strip())
                start = place + 1
        if quoted or depth:
            raise UsageError("a quote or bracket is not closed", where=f"--slices {text!r}")
        found.append(text[start:].strip())
    return [text for text in dict.fromkeys(found) if text]


def read_slices(
    dataset: Dataset, image_ids: pa.Array, wanted: Sequence[str], notes: list[str]
) -> Mapping[str, BoolArray]:
    """Which images are in each slice.

    Args:
        dataset: The dataset.
        image_ids: Of the n images that are evaluated.
        wanted: 'split', 'tags' or 'group' for all values there are; 'split:val', 'tag:night', 'group:NAME' for one; 'shift'
            for the slices in findings of `curate shift`; anything else is an SQL condition on images.
        notes: What is left out is added here.

    Returns:
        bool of shape (n,) by the slice's name; those without an image are left out.

    Raises:
        UsageError: A condition cannot be understood, or a column has too many values.
    """
    found: dict[str, BoolArray] = {}
    for text in wanted:
        named = _shifted(dataset, image_ids) if text == _SHIFT else _conditions(dataset, image_ids, text)
        if not named:
            notes.append(f"slice {text}: there is none")
        for name, value in named.items():
            inside = _chosen(dataset, image_ids, value, text) if isinstance(value, str) else value
            if inside.any():
                found[name] = inside
            else:
                notes.append(f"slice {name}: none of the images that are evaluated")
    return found


def _conditions(dataset: Dataset, image_ids: pa.Array, text: str) -> dict[str, str | BoolArray]:
    """SQL conditions by name: one, or one for each value of a column."""
    column, colon, value = text.partition(":")
    if colon and column in _COLUMNS and value:
        return {text: _COLUMNS[column].format(quote(value))}
    if text not in _WHOLE:
        return {text: text}
    kind = _WHOLE[text]
    stored = "tags" if kind == "tag" else kind
    table = dataset.table("images", columns=["image_id", stored])
    values = table.filter(pc.is_in(table["image_id"], image_ids))[stored]
    names = sorted(
        name for name in pc.unique(pc.list_flatten(values) if kind == "tag" else values).to_pylist() if name is not None
    )
    if len(names) > MOST:
        raise UsageError(
            f"there are {len(names):,} different {_PLURAL[kind]}",
            where=f"--slices {text}",
            remedy=f"name those of interest: {kind}:{names[0]}",
        )
    return {f"{kind}:{name}": _COLUMNS[kind].format(quote(name)) for name in names}


def _chosen(dataset: Dataset, image_ids: pa.Array, condition: str, text: str) -> BoolArray:
    try:
        inside = dataset.table("images", columns=["image_id"], where=condition)["image_id"]
    except UsageError as error:
        known = "split, tags, group, shift, split:NAME, tag:NAME, group:NAME, or a condition"
        raise UsageError(error.what, where=f"--slices {text!r}", remedy=f"{known}; {error.remedy}") from error
    return np.asarray(pc.is_in(image_ids, inside.combine_chunks()), dtype=np.bool_)


def _shifted(dataset: Dataset, image_ids: pa.Array) -> dict[str, str | BoolArray]:
    """Images of the slices that findings of `curate shift` name."""
    columns = ["image_id", "evidence"]
    table = dataset.table("findings", columns=columns, where="check = 'shift' AND evidence LIKE '%\"slice\"%'")
    images: dict[str, list[str]] = {}
    for image, evidence in zip(table["image_id"].to_pylist(), table["evidence"].to_pylist(), strict=True):
        images.setdefault(json.loads(evidence)["slice"], []).append(image)
    return {
        f"shift:{name}": np.asarray(pc.is_in(image_ids, pa.array(inside)), dtype=np.bool_)
        for name, inside in sorted(images.items())
    }
