"""What images are wanted more of: the images of a slice, a class, findings, or a condition.

slice:dark_warm        a slice that 'curate shift' found and kept
class:scratch          images that show a class
finding:hard           images with an open finding of this kind
any SQL condition      "array_has(tags, 'night')"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import KINDS
from curate.checks.shift.stored import find_slice, read_slices, slug
from curate.dataset import Dataset
from curate.dataset.query import in_layer, quote
from curate.dataset.schema import GROUND_TRUTH
from curate.dataset.synthetic import real_only
from curate.errors import UsageError

BoolArray = npt.NDArray[np.bool_]

OPTION: Final = "--target"

_LEAST_SCORE: Final = 0.5
_LONGEST: Final = 40


@dataclass(frozen=True)
class Target:
    """Images that more are wanted of.

    Attributes:
        name: For files and tags: 'dark_warm', 'scratch', 'hard', 'array_has_tags_night'.
        text: As it was asked for.
        image_ids: The images, real ones, sorted.
        class_name: Where it is a class, which.
    """

    name: str
    text: str
    image_ids: pa.StringArray
    class_name: str | None = None

    def among(self, image_ids: pa.ChunkedArray) -> BoolArray:
        """Which of n images are of the target; bool of shape (n,)."""
        return np.asarray(pc.is_in(image_ids, value_set=self.image_ids).to_numpy(), dtype=bool)


def find_target(dataset: Dataset, text: str, *, option: str = OPTION) -> Target:
    """The images that a target stands for.

    Args:
        dataset: Their dataset.
        text: 'slice:NAME', 'class:NAME', 'finding:KIND', or an SQL condition on the images.
        option: What said so, for errors.

    Raises:
        UsageError: There is no such slice, class or kind of finding; the condition cannot be understood; no image is chosen, or
            every one is.
    """
    prefix, colon, name = text.partition(":")
    find = _KINDS.get(prefix.strip()) if colon else None
    if find is None and colon and prefix.isidentifier():
        raise UsageError(
            f"there is no target of the kind '{prefix}'",
            where=f"{option} {text!r}",
            remedy="slice:NAME, class:NAME or finding:KIND; a condition on the images goes with --where",
        )
    if find is None:
        where = real_only(dataset, text)
        target = Target(slug(text)[:_LONGEST].strip("_") or "target", text, _ids(dataset, where))
    else:
        target = find(dataset, name.strip(), f"{option} {text!r}")
    if not len(target.image_ids):
        raise UsageError("the target has no images", where=f"{option} {text!r}", remedy=_REMEDIES.get(prefix, _LOOSEN))
    if len(target.image_ids) == dataset.count("images", where=real_only(dataset, None)) and target.class_name is None:
        raise UsageError(
            "the target is every image there is, so that there is nothing to tell it from",
            where=f"{option} {text!r}",
            remedy="a narrower target; or --recipe NAME, which fits nothing, with --from for the images to change",
        )
    return target


def _of_slice(dataset: Dataset, name: str, where: str) -> Target:
    found = find_slice(read_slices(dataset), name, where=where)
    kept = pc.is_in(found.image_ids, value_set=_ids(dataset, real_only(dataset, None)))
    return Target(slug(found.name.partition(" (")[0]), f"slice:{found.name}", found.image_ids.filter(kept))


def _of_class(dataset: Dataset, name: str, where: str) -> Target:
    known = [each["name"] for each in dataset.commit.classes]
    if name not in known:
        raise UsageError(f"there is no class '{name}'", where=where, remedy=f"classes: {', '.join(known) or 'none'}")
    condition = f"{in_layer(GROUND_TRUTH)} AND label = {quote(name)}"
    images = dataset.table("annotations", columns=["image_id"], where=condition)["image_id"]
    return Target(slug(name) or "class", f"class:{name}", _real(dataset, images), name)


def _of_findings(dataset: Dataset, name: str, where: str) -> Target:
    kind = name.removeprefix("kind=")
    if kind not in KINDS:
        raise UsageError(f"there is no kind of finding '{kind}'", where=where, remedy=f"one of: {', '.join(KINDS)}")
    condition = f"kind = {quote(kind)} AND score >= {_LEAST_SCORE} AND status NOT IN ('rejected', 'fixed')"
    images = dataset.table("findings", columns=["image_id"], where=condition)["image_id"]
    return Target(slug(kind), f"finding:{kind}", _real(dataset, images))


def _ids(dataset: Dataset, where: str | None) -> pa.StringArray:
    return _sorted(dataset.table("images", columns=["image_id"], where=where)["image_id"])


def _real(dataset: Dataset, images: pa.ChunkedArray) -> pa.StringArray:
    """Those of the images that are there and not synthetic, each once."""
    there = _ids(dataset, real_only(dataset, None))
    return there.filter(pc.is_in(there, value_set=images.unique().cast(pa.string())))


def _sorted(ids: pa.ChunkedArray) -> pa.StringArray:
    combined = ids.combine_chunks()
    return combined.take(pc.sort_indices(combined))


_KINDS: Final[Mapping[str, Callable[[Dataset, str, str], Target]]] = {
    "slice": _of_slice,
    "class": _of_class,
    "finding": _of_findings,
}
_LOOSEN: Final = "loosen the condition; or one of slice:NAME, class:NAME, finding:KIND"
_REMEDIES: Final[Mapping[str, str]] = {
    "slice": "its images are gone: run 'curate shift' again",
    "class": "no image shows it in the ground truth: label some first",
    "finding": "'curate findings' lists what was found; run the check that finds this kind first",
}
