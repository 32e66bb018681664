"""Which images may be chosen, which are labelled already, and how many are wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.labels import Labels, load_labels
from curate.dataset import Dataset, Transaction
from curate.dataset.synthetic import real_only
from curate.errors import UsageError
from curate.loop.classifier import Targets
from curate.names import GROUND_TRUTH
from curate.wording import counted

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class NothingLeft(UsageError):
    """Every image that may be chosen has labels already."""


@dataclass(frozen=True)
class Candidates:
    """The images of a dataset, as far as choosing is concerned.

    Attributes:
        labels: Their ground truth; n images.
        may: Which may be chosen, bool of shape (n,).
        labelled: Which people have labelled, the same shape; an image that may be chosen all the same counts as not.
    """

    labels: Labels
    may: BoolArray
    labelled: BoolArray


def load_candidates(
    transaction: Transaction, where: str | None, *, suspected: bool, notes: list[str], held_out: str | None = None
) -> Candidates:
    """Read which images may be chosen.

    Those without ground truth, of the ones that the condition chooses; an image on which people have handed in work and which
    they left empty is labelled too. If the condition chooses labelled images only, those.

    Args:
        transaction: The dataset.
        where: SQL condition on the images; None for all.
        suspected: Whether labelled images are wanted, for their labels are in question.
        notes: What a person should know is added here.
        held_out: A split of which no image may be chosen; None for none.

    Raises:
        NothingLeft: Every image has labels.
        UsageError: The condition cannot be understood, or chooses no image.
    """
    labels = load_labels(transaction.base, GROUND_TRUTH, real_only(transaction.base, None))
    ids = labels.images["image_id"]
    labelled = looked_at(transaction.base, labels)
    chosen = np.ones(len(ids), dtype=bool)
    if where is not None:
        chosen = _among(ids, transaction.base.table("images", columns=["image_id"], where=where)["image_id"])
    if held_out is not None:
        chosen &= ~np.asarray(pc.fill_null(pc.equal(labels.images["split"], held_out), False).to_numpy(), dtype=bool)
    if suspected:
        return Candidates(labels, chosen & labelled, labelled & ~chosen)
    may = chosen & ~labelled
    if not may.any() and where is not None and chosen.any():
        notes.append(f"all {int(chosen.sum()):,} images that --where chooses have labels, and are chosen from again")
        return Candidates(labels, chosen, labelled & ~chosen)
    place = where or transaction.base.name
    if not chosen.any():
        raise UsageError("no image is chosen", where=place, remedy="loosen --where")
    if not may.any():
        raise NothingLeft(
            "every image has labels already",
            where=place,
            remedy="import more images, or say with --where which labelled ones to choose from",
        )
    return Candidates(labels, may, labelled)


def looked_at(dataset: Dataset, labels: Labels) -> BoolArray:
    """Which images people have labelled, be it by handing them in empty.

    Args:
        dataset: The dataset.
        labels: The ground truth of n of its images.

    Returns:
        Shape (n,).
    """
    labelled = np.zeros(labels.images.num_rows, dtype=bool)
    labelled[labels.image] = True
    done = dataset.table("links", columns=["local_id"], where="kind = 'image' AND work IS NOT NULL AND work <> ''")
    return labelled | _among(labels.images["image_id"], done["local_id"])


def parse_budget(text: str, candidates: int) -> int:
    """How many images are wanted.

    Args:
        text: A number, or a part of the candidates in per cent: '100', '5%'.
        candidates: How many there are.

    Raises:
        UsageError: It is neither, or not positive.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number) if text.strip().endswith("%") else int(number)
    except ValueError:
        value = 0
    if not 0 < value < math.inf or (text.strip().endswith("%") and value > 100):
        raise UsageError(
            f"'{text}' is not a budget", where="--budget", remedy="a number of images, or a part of them: 100, 5%"
        )
    return max(1, round(candidates * value / 100)) if text.strip().endswith("%") else int(value)


def targets_of(labels: Labels, rows: IntArray) -> Targets:
    """What a light classifier can learn from the labels of some images.

    Args:
        labels: Of n images.
        rows: Those at hand, shape (m,), in ascending order; the targets' rows are places in it.

    Returns:
        One class for each image, where most labelled ones have a label of their own; else which classes are on each.
    """
    place = np.full(labels.images.num_rows, -1, np.int64)
    place[rows] = np.arange(len(rows))
    known = (labels.label >= 0) & (place[labels.image] >= 0)
    single = known & labels.whole_image
    several = len(np.unique(labels.image[single])) * 2 <= len(np.unique(labels.image[known]))
    used = known if several else single
    at, image = np.unique(place[labels.image[used]], return_inverse=True)
    there = np.zeros((len(at), len(labels.classes)), dtype=bool)
    there[image, labels.label[used]] = True
    return Targets(at, there, several)


def describe(candidates: Candidates) -> str:
    """How many images may be chosen and how many are labelled, in words."""
    may, labelled = int(candidates.may.sum()), int(candidates.labelled.sum())
    return f"{counted(may, 'images')} to choose from, {labelled:,} labelled"


def _among(ids: pa.ChunkedArray, chosen: pa.ChunkedArray) -> BoolArray:
    return np.asarray(pc.is_in(ids, value_set=chosen.combine_chunks()).to_numpy(), dtype=bool)
