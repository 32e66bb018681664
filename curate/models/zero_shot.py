"""Zero-shot classification: of several texts, which describes an image best (Radford et al., ICML 2021, section 3.1.4).

A class is described by the mean of several texts' vectors ("prompt ensembling"); probabilities are a softmax over the classes
of the cosines, times the scale that the encoder has learned for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.errors import InputError
from curate.models.encoders.base import TextEncoder, Vectors
from curate.models.nearest import Float64s, Floats, cosines

TEMPLATES: Final = ("{}", "a photo of {}", "a picture showing {}", "an image of {}")
"""Sentences that a bare name is put into: an encoder has learned from captions, which are rarely a single word."""


@dataclass(frozen=True)
class Prompts:
    """One class and the texts that describe it.

    Attributes:
        name: The class.
        texts: At least one.
    """

    name: str
    texts: Sequence[str]


def prompts_of(name: str, templates: Sequence[str] = TEMPLATES) -> Prompts:
    """A class that is described by its name alone, put in place of '{}' in each template."""
    return Prompts(name, tuple(template.replace("{}", name) for template in templates))


def prompt_vectors(encoder: TextEncoder, classes: Sequence[Prompts]) -> Vectors:
    """One vector for each of k classes, the mean of those of its texts; float32 of shape (k, dimensions), of unit length.

    Raises:
        InputError: The encoder gives vectors that are not made of numbers.
    """
    vectors = np.stack([encoder.encode_text(each.texts).mean(axis=0) for each in classes])
    if not np.isfinite(vectors).all():
        raise InputError("the encoder gave a text a vector that is not made of numbers", where=encoder.name)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def probabilities(vectors: Floats, classes: Vectors, logit_scale: float) -> Float64s:
    """Probability of each class for each image; float64 array of shape (n, k), rows add up to 1.

    Args:
        vectors: The images', shape (n, dimensions).
        classes: As `prompt_vectors` gives them, shape (k, dimensions).
        logit_scale: The encoder's.
    """
    logits = logit_scale * cosines(vectors, classes)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
