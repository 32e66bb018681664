"""The whole check of synthetic images: what is dropped, what is flagged, and whether they are what was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from curate.augment.check.artefacts import KINDS, beyond_range, has_seam, is_emptier
from curate.augment.check.copies import is_copy
from curate.augment.check.fit import LabelFit, label_fit
from curate.augment.check.landing import ALPHA, Landing, Told, landing
from curate.augment.check.looks import Looks, look
from curate.augment.check.pictures import Picture, draw, group_numbers
from curate.checks.boxes import BoolArray, IntArray
from curate.engine.local import default_threads
from curate.errors import ImageError
from curate.imaging import load_pixels
from curate.models.encoders.base import Encoder
from curate.models.passes import Progress
from curate.wording import counted

SAMPLE: Final = 400
"""Images of a side that are enough to tell whether two sets differ, and by how much."""

_FEWEST: Final = 5
"""Target images, for a distance to mean anything."""

_GUESSING: Final = 0.5
_COPY: Final = "its parent over again"
_UNREADABLE: Final = "cannot be read"


@dataclass(frozen=True)
class SyntheticCheck:
    """What checking n synthetic images came to.

    Attributes:
        images: n.
        copies: Which are their parent over again, and are to be dropped; bool of shape (n,).
        unreadable: Which cannot be read, and are to be dropped; the same.
        artefacts: Which look made, by kind; the same, for each of `KINDS`.
        landing: Where they are; None where the target has too few images, or there is none.
        fit: Whether their labels fit; None where there are too few.
        sampled: How many of them those two were found on.
        notes: What has to be known of it.
    """

    images: int
    copies: BoolArray
    unreadable: BoolArray
    artefacts: dict[str, BoolArray]
    landing: Landing | None
    fit: LabelFit | None
    sampled: int
    notes: list[str] = field(default_factory=list)

    @property
    def dropped(self) -> BoolArray:
        """Which are to be dropped; bool of shape (n,)."""
        return np.asarray(self.copies | self.unreadable)

    def reasons(self) -> Counter[str]:
        """Why images are dropped, and how often."""
        counts = Counter({_COPY: int(self.copies.sum()), _UNREADABLE: int((self.unreadable & ~self.copies).sum())})
        return +counts

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; counts in place of the images."""
        return {
            "images": self.images,
            "dropped": dict(self.reasons()),
            "artefacts": {kind: int(rows.sum()) for kind, rows in self.artefacts.items() if rows.any()},
            "sampled": self.sampled,
            "landing": None if self.landing is None else asdict(self.landing),
            "labels": None if self.fit is None else {**asdict(self.fit), "fits": self.fit.fits},
            "notes": list(self.notes),
        }

    def describe(self) -> list[str]:
        """What a person should know, a sentence each."""
        lines = [f"not kept: {counted(count, 'images')}: {why}" for why, count in self.reasons().items()]
        if self.landing is not None:
            lines += describe_landing(self.landing)
        if self.fit is not None:
            lines.append(describe_fit(self.fit))
        flagged = {kind: int(rows.sum()) for kind, rows in self.artefacts.items() if rows.any()}
        if flagged:
            listed = ", ".join(f"{kind} {count:,}" for kind, count in flagged.items())
            lines.append(f"look made: {listed} of {counted(self.images, 'images')}")
        return [*lines, *self.notes]


def check_synthetic(
    synthetic: Sequence[Picture],
    parent: Sequence[int],
    parents: Sequence[Picture],
    target: Sequence[Picture],
    *,
    encoder: Encoder,
    seed: int = 0,
    progress: Progress | None = None,
) -> SyntheticCheck:
    """Check synthetic images.

    Copies and artefacts are looked for on all of them, the rest on a sample.

    Args:
        synthetic: n images; each has the group of its parent.
        parent: Of each, the number of its (first) parent.
        parents: Real images that they were made from.
        target: Real images that they should look like; those that may be learnt from. None where nothing was wanted but
            more of the same.
        encoder: The dataset's.
        seed: Of samples, folds and resamples.
        progress: Told (images done, images to do).
    """
    owner = np.asarray(parent, dtype=np.int64)
    total = len(synthetic) + len(parents) + min(len(target), SAMPLE)
    done = partial(_told, progress, total)
    looks = look(synthetic, encoder, done(0))
    own = look(parents, encoder, done(len(synthetic)))
    chosen = [target[k] for k in draw(len(target), SAMPLE, seed).tolist()]
    wanted = look(chosen, encoder, done(len(synthetic) + len(parents)))
    chosen = [each for each, read in zip(chosen, wanted.read.tolist(), strict=True) if read]
    wanted = wanted.take(np.flatnonzero(wanted.read))
    pixels = _pixel_checks(synthetic, owner, parents)
    artefacts = beyond_range(looks.measures, own.take(owner).measures, wanted.measures)
    artefacts |= {kind: pixels[kind] for kind in KINDS if kind in pixels}
    kept = np.flatnonzero(looks.read & own.read[owner] & ~pixels[_COPY])
    rows = kept[draw(len(kept), SAMPLE, seed)]
    notes: list[str] = []
    where = _landing(synthetic, rows, owner, (looks, own, wanted), chosen, seed, notes)
    used = np.unique(owner[rows])
    fit = label_fit(
        [synthetic[k] for k in rows.tolist()], [parents[k] for k in used.tolist()], (looks.take(rows), own.take(used)), encoder,
        seed=seed,
    )  # fmt: skip
    unreadable = np.asarray(~looks.read)
    flags = {kind: np.asarray(flag & looks.read) for kind, flag in artefacts.items()}
    return SyntheticCheck(len(synthetic), pixels[_COPY], unreadable, flags, where, fit, len(rows), notes)


def describe_landing(found: Landing) -> list[str]:
    """How near synthetic images are to the target, in words."""
    way = ""
    if found.covered is not None:
        between = "" if found.covered_low is None else f", 95% {found.covered_low:.0%} to {found.covered_high:.0%}"
        way = f", {found.covered:.0%} of the way{between}"
    lines = [
        f"distance to the target: {found.before:.3f} before, {found.after:.3f} after, {found.floor:.3f} among its own "
        f"images{way}"
    ]
    if found.after > found.before:
        surely = found.covered_high is not None and found.covered_high < 0
        lines.append(
            "the new images are farther from the target than those that they were made from"
            + (": this is not what was wanted" if surely else ", on average: nothing says that they came nearer")
            + "; look at them before a model learns from them, and see with --prove whether they help"
        )
    told = found.told_after
    if told is not None:
        before = "" if found.told_before is None else f" (before: {found.told_before.auc:.2f})"
        lines.append(f"{_says_of(found, told)}: AUC {told.auc:.2f}, 95% {told.low:.2f} to {told.high:.2f}{before}")
    if found.p_value is not None and found.differing:
        listed = ", ".join(found.differing[:5])
        lines.append(f"what still differs, p {found.p_value:.3f}: {listed}")
    return lines


def _says_of(found: Landing, after: Told) -> str:
    """What the classifier tells of new images; that it cannot tell them says nothing where it could not tell their parents."""
    before = found.told_before
    if after.low > _GUESSING:
        return "can be told from real ones of the target"
    if found.p_value is not None and found.p_value < ALPHA:
        return (
            f"a classifier may be guessing which are real ones of the target, but a test of what was measured "
            f"(p {found.p_value:.3f}) says that they differ"
        )
    unknown = "so few images cannot tell whether they look like real ones of the target: a classifier"
    if before is None or before.low <= _GUESSING:
        return f"{unknown} may be guessing with those they were made from, too"
    if after.auc >= before.auc:
        return f"{unknown} sees no change from those they were made from"
    return "cannot be told from real ones of the target"


def describe_fit(found: LabelFit) -> str:
    """Whether labels fit, in words."""
    made, own = found.synthetic, found.parents
    between = "" if found.low is None else f", 95% {found.low:+.1%} to {found.high:+.1%}"
    says = "labels fit as their parents' do" if found.fits else "labels fit worse than their parents'"
    return (
        f"{says}: {made.flagged:,} of {made.labels:,} doubted, {own.flagged:,} of {own.labels:,} of the parents; expected "
        f"wrong {made.share:.1%} against {own.share:.1%} ({found.excess:+.1%}{between})"
    )


def _landing(
    synthetic: Sequence[Picture],
    rows: IntArray,
    owner: IntArray,
    looks: tuple[Looks, Looks, Looks],
    target: Sequence[Picture],
    seed: int,
    notes: list[str],
) -> Landing | None:
    made, own, wanted = looks
    if len(target) < _FEWEST or not len(rows):
        if target:
            notes.append(f"{counted(len(target), 'images')} of the target are too few to measure a distance to")
        return None
    groups = group_numbers([synthetic[k] for k in rows.tolist()], target)
    found = landing(made.take(rows), own.take(owner[rows]), wanted, (groups[0], groups[1]), seed=seed)
    if found.told_after is None:
        notes.append("too few independent images to try to tell synthetic ones from those of the target")
    return found


def _pixel_checks(synthetic: Sequence[Picture], owner: IntArray, parents: Sequence[Picture]) -> dict[str, BoolArray]:
    """What only the pixels of an image beside its parent's tell; bool of shape (n,) by name."""

    def one(row: int) -> tuple[bool, bool, bool]:
        picture = synthetic[row]
        try:
            child, own = load_pixels(picture.path), load_pixels(parents[owner[row]].path)
        except ImageError:
            return False, False, False
        pasted = any(thing.pasted for thing in picture.things)
        return not pasted and is_copy(child, own), is_emptier(child, own), pasted and has_seam(child, picture)

    with ThreadPoolExecutor(default_threads(), thread_name_prefix="beside") as pool:
        found = np.array(list(pool.map(one, range(len(synthetic)))), dtype=np.bool_).reshape(-1, 3)
    return {_COPY: found[:, 0], "empty": found[:, 1], "seam": found[:, 2]}


def _told(progress: Progress | None, total: int, before: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None

    def tell(done: int, _: int) -> None:
        progress(before + done, total)

    return tell
