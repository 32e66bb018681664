"""What an encoder is: images in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
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


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder that puts texts among its images: a text's vector is near those of the images it describes."""

    logit_scale: float
    """What cosines are multiplied by before a softmax over texts (CLIP's learned temperature, about 100)."""

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Embed n texts; float32 of shape (n, dimensions), rows of unit length."""


@dataclass(frozen=True)
class NoTexts:
    """Why a model that has a side for texts is an encoder of images only.

    Attributes:
        reason: What went wrong.
        remedy: What the reader can do about it.
    """

    reason: str
    remedy: str


def require_text(encoder: Encoder) -> TextEncoder:
    """The encoder, if it understands texts.

    Args:
        encoder: Any; one that lost its text side says so in an attribute `no_texts`, a `NoTexts` or None.

    Raises:
        UsageError: It does not.
    """
    if isinstance(encoder, TextEncoder):
        return encoder
    lost: NoTexts | None = getattr(encoder, "no_texts", None)
    raise UsageError(
        f"the encoder '{encoder.name}' knows images only, no texts" + (f": {lost.reason}" if lost else ""),
        remedy=lost.remedy if lost else "name a CLIP model: --encoder clip:ViT-B-32/laion2b_s34b_b79k",
    )
