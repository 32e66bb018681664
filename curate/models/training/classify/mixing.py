"""Images mixed with one another, and their targets alike.

MixUp (Zhang et al., ICLR 2018) blends two images; CutMix (Yun et al., ICCV 2019) puts a piece of one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mixing:
    """How images are mixed.

    Attributes:
        mixup: Alpha of the Beta distribution that blends are drawn from; 0 for none.
        cutmix: The same for the area of pieces.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, inputs: Any, targets: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        """Mix each image of a batch with another; with both kinds, one is drawn for each batch.

        Args:
            inputs: Tensor of shape (n, channels, height, width), or of features, which are blended only: (n, d).
            targets: Of shape (n, classes).
            rng: Draws.
        """
        kinds = [
            kind for kind in ("mixup", "cutmix") if getattr(self, kind) > 0 and (kind == "mixup" or inputs.ndim == 4)
        ]
        if not kinds or len(inputs) < 2:
            return inputs, targets
        kind = kinds[int(rng.integers(len(kinds)))]
        alpha = getattr(self, kind)
        share = float(rng.beta(alpha, alpha))
        order = rng.permutation(len(inputs))
        if kind == "mixup":
            return share * inputs + (1 - share) * inputs[order], share * targets + (1 - share) * targets[order]
        height, width = inputs.shape[2:]
        top, bottom = _piece(height, share, rng)
        left, right = _piece(width, share, rng)
        mixed = inputs.clone()
        mixed[:, :, top:bottom, left:right] = inputs[order, :, top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, kept * targets + (1 - kept) * targets[order]


def _piece(side: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Where a piece begins and ends along a side, of which `share` of the area is to be left; it may be cut off."""
    half = side * (1 - share) ** 0.5 / 2
    middle = rng.uniform(0, side)
    return int(max(0, round(middle - half))), int(min(side, round(middle + half)))
