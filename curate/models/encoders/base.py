"""What an encoder is: images in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

Vectors = npt.NDArray[np.float32]
"""Embeddings: float32 array of shape (n, dimensions), rows of unit length."""


class Encoder(Protocol):
    """Turns images into vectors, the same for the same pixels on every run."""

    name: str
    """Spec and version, unique to the numbers it gives: 'builtin-v0', 'clip:ViT-B-32/laion2b_s34b_b79k'."""

    dimensions: int
    """Length of a vector."""

    input_size: int
    """Images are wanted at about this many pixels on their shorter side (a hint for decoding)."""

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        """One image (uint8 of shape (height, width, 3)) to the array that `encode` takes. Runs in decoding threads."""

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        """Embed a batch of n prepared images; returns shape (n, dimensions)."""
