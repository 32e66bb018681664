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
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PATTERN: Final = '%"synthetic"%"parents"%'
_REAL: Final = f"(metadata IS NULL OR metadata NOT LIKE '{_PATTERN}')"


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


def is_synthetic(images: pa.Table) -> BoolArray:
    """Which images were made from others; bool array of shape (n,).

    Args:
        images: n rows with the column metadata.
    """
    marked = pc.match_like(images["metadata"], _PATTERN)
    return np.asarray(pc.fill_null(marked, False).to_numpy(), dtype=bool)


def parent_ids(images: pa.Table) -> list[tuple[str, ...]]:
    """Ids of each image's parents, none where it is not synthetic; n tuples.

    Args:
        images: n rows with the column metadata.
    """
    found: list[tuple[str, ...]] = [()] * images.num_rows
    for row in np.flatnonzero(is_synthetic(images)).tolist():
        said = json.loads(images["metadata"][row].as_py()).get(SYNTHETIC)
        if isinstance(said, dict):
            found[row] = tuple(str(parent) for parent in said.get("parents", ()))
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

    A condition that speaks of synthetic images itself (``array_has(tags, 'synthetic')``) is left as it is.

    Args:
        dataset: Whose images are meant.
        where: SQL condition on the images; None for all.

    Raises:
        UsageError: The condition cannot be understood.
    """
    if where is not None and SYNTHETIC in where:
        return where
    if "images" not in dataset.commit.tables or not dataset.count("images", where=f"NOT {_REAL}"):
        return where
    if where is None:
        return _REAL
    dataset.count("images", where=where)  # an error should quote what the user wrote
    return f"({where}) AND {_REAL}"
