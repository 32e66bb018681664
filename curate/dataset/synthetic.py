"""Which images of a dataset were made from others, and from which: what a model learns from, and is never measured on.

A synthetic image is a row like any other. Its metadata say that it is one, and name its parents:

    {"synthetic": {"parents": ["3f0c…", "91aa…"], "recipe": "night", "digest": "…", "seed": 7, "applied": […]}}

A tag 'synthetic' stands on it too, for people; it decides nothing, since it may stand on pictures that somebody rendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.query import quote
from curate.dataset.store import Dataset

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

SYNTHETIC: Final = "synthetic"
"""Key in an image's metadata, and tag."""

_MEASURED_ON: Final = frozenset(
    {
        *("val", "valid", "validate", "validation", "valset", "minival", "dev", "devel", "devset", "development"),
        *("test", "tests", "testing", "testset", "minitest", "eval", "evaluate", "evaluation", "bench", "benchmark"),
        *("hold", "holdout", "held", "heldout"),
    }
)
_LEARNT_FROM: Final = frozenset({"train", "trains", "training", "trainset", "trainval", "minitrain"})
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# What may be metadata of ours; whether they are is seen by reading them.
_PATTERN: Final = '%"synthetic"%"parents"%'
_REAL: Final = f"metadata IS NULL OR metadata NOT LIKE '{_PATTERN}'"
_LITERAL: Final = r"'(?:[^']|'')*'"
# array_has(tags, 'synthetic'), array_has_any(tags, ['synthetic', 'night']), array_has(tags, 'augment:night');
# metadata LIKE '%"synthetic"%': outside of other texts, which are passed over whole.
_OF_SYNTHETIC: Final = re.compile(
    rf"""\btags\s*,\s*(?:make_array\s*\()?[\s\[]*(?:{_LITERAL}\s*,\s*)*'(?:synthetic|augment:[^']*)'"""
    rf"""|\bmetadata\s+(?:NOT\s+)?I?LIKE\s+'[^']*[%"]synthetic[%"][^']*'|({_LITERAL})""",
    re.IGNORECASE,
)


def synthetic_metadata(parents: Sequence[str], about: Mapping[str, Any]) -> str:
    """The metadata of a synthetic image, as JSON.

    Args:
        parents: Ids of the images whose pixels are in it, the one whose labels it carries first.
        about: What else there is to know: recipe, digest, seed, what was applied.
    """
    return json.dumps({SYNTHETIC: {"parents": list(parents), **about}}, ensure_ascii=False)


def is_measured_on(split: str | None) -> bool:
    """Whether a word in a split's name says that models are measured or chosen by it: val, test, dev, eval, holdout and the
    like, also in 'coco_val2017', 'iid-test' and 'publicTest', but not in 'valves' or 'device1'.

    Nothing is made from its images, and nothing that was is learnt from.
    """
    return split is not None and any(word.lower() in _MEASURED_ON for word in _WORD.findall(split))


def is_learnt_from(split: str | None) -> bool:
    """Whether a split's name says that models are trained on it: 'train', 'Training', 'coco_train2017', but not 'val' or None."""
    words = [] if split is None else [word.lower() for word in _WORD.findall(split)]
    return any(word in _LEARNT_FROM for word in words) and not is_measured_on(split)


def is_synthetic(images: pa.Table) -> BoolArray:
    """Which images were made from others; bool array of shape (n,).

    Args:
        images: n rows with the column metadata.
    """
    found = np.array(pc.fill_null(pc.match_like(images["metadata"], _PATTERN), False).to_numpy(), dtype=bool)
    for row in np.flatnonzero(found).tolist():
        found[row] = _said_of(images["metadata"][row].as_py()) is not None
    return found


def parent_ids(images: pa.Table) -> list[tuple[str, ...]]:
    """Ids of each image's parents, none where it is not synthetic; n tuples.

    Args:
        images: n rows with the column metadata.
    """
    found: list[tuple[str, ...]] = [()] * images.num_rows
    for row in np.flatnonzero(is_synthetic(images)).tolist():
        said = _said_of(images["metadata"][row].as_py())
        found[row] = () if said is None else tuple(str(parent) for parent in said["parents"])
    return found


def parent_links(images: pa.Table) -> IntArray:
    """Synthetic images with their parents, as far as both are among the images; row numbers of shape (2, m).

    Args:
        images: Rows with the columns image_id and metadata.
    """
    parents = parent_ids(images)
    children = np.repeat(np.arange(len(parents)), [len(each) for each in parents])
    wanted = pa.array([parent for each in parents for parent in each], pa.string())
    rows = pc.fill_null(pc.index_in(wanted, value_set=images["image_id"].combine_chunks()), -1).to_numpy()
    there = rows >= 0
    return np.stack([children[there], rows[there].astype(np.int64)])


def real_only(dataset: Dataset, where: str | None) -> str | None:
    """A condition that chooses what `where` does, without synthetic images; `where` itself where there are none of them.

    A condition that speaks of them itself, by their tags (``array_has(tags, 'synthetic')``) or metadata, is left as it is; one in
    which the word stands for something else (``split = 'synthetic'``) is not.

    Args:
        dataset: Whose images are meant.
        where: SQL condition on the images; None for all.

    Raises:
        UsageError: The condition cannot be understood.
    """
    if where is not None and speaks_of_synthetic(where):
        return where
    real = _real_condition(dataset)
    if real is None:
        return where
    if where is None:
        return real
    dataset.count("images", where=where)  # an error should quote what the user wrote
    return f"({where}) AND {real}"


def speaks_of_synthetic(where: str) -> bool:
    """Whether an SQL condition asks for synthetic images by their tags or metadata."""
    return any(match.group(1) is None for match in _OF_SYNTHETIC.finditer(where))


def _real_condition(dataset: Dataset) -> str | None:
    """What real images fulfil; None where all do. Those whose metadata only look like ours are named one by one."""
    if "images" not in dataset.commit.tables:
        return None
    alike = dataset.table("images", columns=["image_id", "metadata"], where=f"NOT ({_REAL})")
    made = is_synthetic(alike)
    if not made.any():
        return None
    real = alike.filter(pa.array(~made))["image_id"].to_pylist()
    return f"({_REAL} OR image_id IN ({', '.join(map(quote, real))}))" if real else f"({_REAL})"


def _said_of(metadata: str) -> dict[str, Any] | None:
    """What an image's metadata say of how it was made; None where it was not made from others."""
    try:
        content = json.loads(metadata)
    except ValueError:
        return None
    said = content.get(SYNTHETIC) if isinstance(content, dict) else None
    return said if isinstance(said, dict) and isinstance(said.get("parents"), list) else None
