"""Parts of the images that a model is measured on: splits, tags, groups, what `curate shift` found, SQL conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import BoolArray
from curate.checks.shift.stored import find_slice
from curate.checks.shift.stored import read_slices as read_stored
from curate.dataset import Dataset
from curate.dataset.query import quote
from curate.errors import UsageError

MOST: Final = 100
"""Values of a column that are taken apart."""

_COLUMNS: Final = {"split": "split = {}", "group": "`group` = {}", "tag": "array_has(tags, {})"}
_WHOLE: Final = {"splits": "split", "groups": "group", "tags": "tag", "split": "split", "group": "group", "tag": "tag"}
_PLURAL: Final = {"split": "splits", "group": "groups", "tag": "tags"}
_SHIFT: Final = "shift"
_NAMED: Final = "slice:"


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
            for the slices on which more goes wrong by `curate shift`, 'slice:dark_warm' for any that it found; anything else
            is an SQL condition on images.
        notes: What is left out is added here.

    Returns:
        bool of shape (n,) by the slice's name; those without an image are left out.

    Raises:
        UsageError: A condition cannot be understood, a column has too many values, or there is no slice of a name.
    """
    found: dict[str, BoolArray] = {}
    for text in wanted:
        found_by_shift = text == _SHIFT or text.startswith(_NAMED)
        named = (_shifted if found_by_shift else _conditions)(dataset, image_ids, text)
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
        known = "split, tags, group, shift, split:NAME, tag:NAME, group:NAME, slice:NAME, or a condition"
        raise UsageError(error.what, where=f"--slices {text!r}", remedy=f"{known}; {error.remedy}") from error
    return np.asarray(pc.is_in(image_ids, inside.combine_chunks()), dtype=np.bool_)


def _shifted(dataset: Dataset, image_ids: pa.Array, text: str) -> dict[str, str | BoolArray]:
    """Slices that `curate shift` has found: those that fail, or the one that is named."""
    stored = read_stored(dataset)
    if text == _SHIFT:
        chosen = [part for part in stored.values() if part.fails]
    else:
        chosen = [find_slice(stored, text.removeprefix(_NAMED), where=f"--slices {text!r}")]
    return {
        f"{_NAMED}{part.name}": np.asarray(pc.is_in(image_ids, part.image_ids), dtype=np.bool_)
        for part in sorted(chosen, key=lambda part: part.name)
    }
