"""An image while things are put on it: its pixels, the labels on it, and which pixels each of them claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.augment.labels import Label, Mask
from curate.augment.occlusion import occlude, region_of
from curate.imaging import Pixels


@dataclass(frozen=True)
class Scene:
    """An image with what is labelled on it.

    Attributes:
        pixels: The image.
        labels: On it.
        regions: The pixels that each label claims, None for a label of the whole image; as many.
        depth: How far away each pixel is, float32 of the image's size, in metres; None where that is not known.
        parents: Ids of the images whose pixels are in it, the one it began as first.
    """

    pixels: Pixels
    labels: tuple[Label, ...]
    regions: tuple[Mask | None, ...]
    depth: npt.NDArray[np.float32] | None
    parents: tuple[str, ...]

    @classmethod
    def of(
        cls, pixels: Pixels, labels: Sequence[Label], parent: str, depth: npt.NDArray[np.float32] | None = None
    ) -> Scene:
        """An image as it is."""
        height, width = pixels.shape[:2]
        regions = tuple(region_of(label.shape, height, width) for label in labels)
        return cls(pixels, tuple(labels), regions, depth, (parent,))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def with_objects(
        self, pixels: Pixels, hidden: Mask, added: Sequence[tuple[Label, Mask]], parent: str, *, cut: bool = True
    ) -> Scene:
        """The scene with something put on it.

        Args:
            pixels: What it looks like then.
            hidden: Where that is.
            added: Its labels, with what each claims.
            parent: Id of the image that it comes from.
            cut: Whether it hides what was there; a scratch does not.
        """
        kept = [(label, region) for label, region in zip(self.labels, self.regions, strict=True)]
        if cut:
            left = [(occlude(label, region, hidden), region) for label, region in kept]
            kept = [
                (label, None if region is None else region & ~hidden) for label, region in left if label is not None
            ]
        labels, regions = zip(*kept, *added, strict=True)
        return replace(
            self, pixels=pixels, labels=labels, regions=regions, parents=tuple(dict.fromkeys([*self.parents, parent]))
        )
