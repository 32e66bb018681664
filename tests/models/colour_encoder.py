"""A text encoder whose results can be told beforehand: vectors are mean colours, and texts have those of their colour words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curate.imaging import Pixels
from curate.models.encoders.base import Encoder, TextEncoder, Vectors
from curate.models.encoders.registry import ENCODERS

COLOURS: Final = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
}


class ColourEncoder:
    """Three dimensions: red, green, blue."""

    name = "colours"
    dimensions = 3
    input_size = 8
    logit_scale = 20.0

    def __init__(self) -> None:
        self.texts: list[str] = []

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        return np.asarray(pixels.reshape(-1, 3).mean(axis=0), np.float32)

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        return _unit(np.stack(prepared).astype(np.float32))

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        found = [[COLOURS[word] for word in text.replace(",", " ").split() if word in COLOURS] for text in texts]
        return _unit(np.array([np.sum(colours or [(1, 1, 1)], axis=0) for colours in found], np.float32))


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6), np.float32)


def load(argument: str) -> Encoder:
    """As a registry's entry loads it."""
    encoder: TextEncoder = ColourEncoder()
    return encoder


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it known as 'colours', until the test ends."""
    monkeypatch.setitem(ENCODERS._builtins, "colours", f"{__name__}:load")


def paint(path: Path, *halves: Sequence[int]) -> None:
    """An image of upright stripes of these colours, 32 x 16 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = [np.full((16, 32 // len(halves), 3), colour, np.uint8) for colour in halves]
    Image.fromarray(np.concatenate(stripes, axis=1)).save(path)
