"""How good class maps are: IoU and Dice of each class from counts of pixels, which add up over images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import VOID
from curate.models.training.segment.regions import ChannelMap

METRIC: Final = "mean_iou"
"""Mean IoU over the classes that are there, background apart."""

_PART: Final = 1 << 20


@dataclass(frozen=True)
class Counts:
    """Pixels of one image, or of many.

    Attributes:
        both: Rightly said to be of each channel; int64 of shape (channels,).
        truth: Really of it; the same shape.
        said: Said to be of it where the truth is known; the same shape.
    """

    both: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]
    said: npt.NDArray[np.int64]

    @classmethod
    def of(cls, said: ChannelMap, truth: ChannelMap, channels: int) -> Counts:
        """Compare two maps of one shape; pixels whose truth is void are left out, those said to be void are wrong."""
        # Down the columns, as maps are drawn, and a part at a time: counting makes each number eight bytes long.
        all_said, all_truth = said.T.ravel(), truth.T.ravel()
        pairs = np.zeros((channels + 1) ** 2, dtype=np.int64)
        for start in range(0, all_truth.size, _PART):
            part = slice(start, start + _PART)
            # Void, -1, comes first.
            code = (all_truth[part].astype(np.int64) - VOID) * (channels + 1) + (all_said[part] - VOID)
            pairs += np.bincount(code, minlength=len(pairs))
        known = pairs.reshape(channels + 1, channels + 1)[1:]
        return cls(both=known[:, 1:].diagonal().copy(), truth=known.sum(axis=1), said=known[:, 1:].sum(axis=0))


def metrics(counts: Sequence[Counts], classes: Sequence[str], *, background: bool) -> dict[str, float]:
    """IoU and Dice of the classes that are there, their means, and the share of pixels that are right.

    Args:
        counts: Of each image.
        classes: Names of the channels, without the background.
        background: Whether channel 0 is the background. It is told, but is in no mean; only where no class is on any image are
            the means its own, so that what is wrongly found there counts.

    Returns:
        'mean_iou', 'mean_dice', 'pixel_accuracy'; 'iou/NAME' and 'dice/NAME' of each class that is there; all in [0, 1].
    """
    both, truth, said = (
        np.sum([getattr(each, name) for each in counts], axis=0, dtype=np.int64).reshape(-1)
        for name in ("both", "truth", "said")
    )
    if truth.sum() == 0:
        return {METRIC: 0.0, "mean_dice": 0.0, "pixel_accuracy": 0.0}
    with np.errstate(invalid="ignore"):  # of a class that is nowhere
        iou = both / (truth + said - both)
        dice = 2 * both / (truth + said)
    names = ["(none)" if "background" in classes else "background", *classes] if background else list(classes)
    there = np.flatnonzero(truth > 0)
    meant = there[there > 0] if background and (there > 0).any() else there
    numbers = {
        METRIC: float(iou[meant].mean()),
        "mean_dice": float(dice[meant].mean()),
        "pixel_accuracy": float(both.sum() / truth.sum()),
    }
    numbers |= {f"iou/{names[channel]}": float(iou[channel]) for channel in there}
    return numbers | {f"dice/{names[channel]}": float(dice[channel]) for channel in there}
