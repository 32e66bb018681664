"""Names that the command line needs before anything heavy is imported."""

from __future__ import annotations

import re
from typing import Final

GROUND_TRUTH: Final = "ground_truth"
"""The layer that holds what people labelled. Model output goes to ``predictions/<model>``."""

PREDICTIONS: Final = "predictions/"
"""Prefix of the layers that hold a model's output."""

ANNOTATORS: Final = "annotators/"
"""Prefix of the layers that hold what each of several annotators says of the same images."""

ALL_LAYERS: Final = "all"
"""What an export is asked for where it should have every layer; no layer can have this name."""

SETTINGS: Final = ("encoder", "harvest", "predictions", "remotes")
"""Keys of a dataset's `info` that are curate's own: exports leave them out, and imports do not touch them."""


def is_layer_name(text: str) -> bool:
    """Whether a layer can have this name: 'ground_truth', 'predictions/NAME' or 'annotators/NAME'.

    Folders are named after layers: NAME may have several parts, but none that is empty or leads elsewhere ('.', '..'),
    and nothing that breaks a line.
    """
    prefix = next((prefix for prefix in (PREDICTIONS, ANNOTATORS) if text.startswith(prefix)), None)
    if prefix is None:
        return text == GROUND_TRUTH
    if not text.isprintable():
        return False
    parts = [part.strip() for part in re.split(r"[/\\]", text.removeprefix(prefix))]
    return {"", ".", ".."}.isdisjoint(parts)
