"""Who is measured on and who is learnt from: no image, and nothing that was made from it or filmed beside it, is both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.augment.parents import is_measured_on
from curate.checks.boxes import BoolArray, IntArray
from curate.errors import UsageError
from curate.models.training.examples import Material
from curate.models.training.folds import hold_out
from curate.wording import counted

SHARE: Final = 0.3
"""Of the target that is held out where none of it is in a split that is measured on."""


@dataclass(frozen=True)
class Arms:
    """Rows of a material.

    Attributes:
        held: Real images that both models are measured on.
        target: Which of those are of the target, bool of shape (held,).
        without: Real images that both learn from.
        synthetic: What one of them learns from besides.
        how: How images were held out, in words.
        notes: What was left out.
    """

    held: IntArray
    target: BoolArray
    without: IntArray
    synthetic: IntArray
    how: str
    notes: list[str]


def divide_arms(material: Material, target: BoolArray, chosen: BoolArray, seed: int) -> Arms:
    """Divide a dataset's images.

    Args:
        material: n images, synthetic ones among them.
        target: Which are of the target; bool of shape (n,).
        chosen: Which synthetic images are to be proved; the same.
        seed: Of what is held out where no split says so.

    Raises:
        UsageError: No real image of the target is labelled, or nothing is left to learn from.
    """
    real = material.labelled & ~material.synthetic
    if not (real & target).any():
        raise UsageError(
            "no real image of the target is labelled, so that no gain could be measured",
            where="--prove",
            remedy="label some of them, and put them into the split val or test",
        )
    held, how = _held_out(material, real, target, seed)
    apart = np.isin(material.groups, material.groups[held])
    learnt = real & ~held & ~apart & ~_measured_on(material)
    made = chosen & material.synthetic & material.labelled
    synthetic = material.without_children(made & ~apart, held)
    notes = _notes(int((real & ~held & apart & ~_measured_on(material)).sum()), int((made & ~synthetic).sum()))
    for rows, what in ((learnt, "real"), (synthetic, "synthetic")):
        if not rows.any():
            raise UsageError(
                f"no {what} image is left to learn from",
                where="--prove",
                remedy="fewer images in val and test, or other groups",
            )
    places = np.flatnonzero(held)
    return Arms(places, target[places], np.flatnonzero(learnt), np.flatnonzero(synthetic), how, notes)


def _held_out(material: Material, real: BoolArray, target: BoolArray, seed: int) -> tuple[BoolArray, str]:
    """Which real images are measured on: those of val and test; of a target that is in neither, a part."""
    measured = real & _measured_on(material)
    if (measured & target).any():
        names = sorted({material.splits[row] for row in np.flatnonzero(measured).tolist()})
        return measured, f"the splits {' and '.join(names)}" if len(names) > 1 else f"the split {names[0]}"
    pool = np.flatnonzero(real & (target if measured.any() else np.ones_like(target)))
    # Of the target and of the rest alike, and of every class.
    strata = 2 * (material.strata[pool] - material.strata.min(initial=0)) + target[pool]
    held = measured.copy()
    held[pool[hold_out(material.groups[pool], strata, SHARE, seed)]] = True
    if not (held & target).any():
        raise UsageError(
            "all real images of the target are of one group, which cannot be both learnt from and measured on",
            where="--prove",
            remedy="put some images of the target into the split val or test",
        )
    return (
        held,
        f"{SHARE:.0%} of {'the target' if measured.any() else 'the images'}, as none of the target is in val or test",
    )


def _measured_on(material: Material) -> BoolArray:
    return np.array([is_measured_on(split or None) for split in material.splits], dtype=np.bool_)


def _notes(shared: int, children: int) -> list[str]:
    notes = []
    if shared:
        notes.append(
            f"not learnt from: {counted(shared, 'images')} of a group, or copies of an image, that is measured on"
        )
    if children:
        notes.append(f"not learnt from: {counted(children, 'synthetic images')} whose parents are measured on")
    return notes
