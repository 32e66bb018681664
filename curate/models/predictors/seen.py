"""Which images a model has looked at, for each layer of predictions: also those on which it found nothing."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa

from curate.dataset.ids import hash_text
from curate.dataset.store import Dataset
from curate.names import PREDICTIONS

PREDICTED: Final = "predicted/"
"""Prefix of the tables that say so, one for each layer."""

SETTINGS_KEY: Final = "predictions"
"""Key of the dataset's info: by layer and digest, thresholds, prompts, and which class was which."""

SEEN: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the image
        # Changes when what was predicted on does: the file's size and time, or the boxes that were turned into masks.
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        # Digest of what else the predictions depend on, which the dataset's info has under `SETTINGS_KEY`.
        pa.field("settings", pa.string(), nullable=False),
    ]
)


def seen_table(layer: str) -> str:
    """Name of the table for a layer: a folder's name on every system, and another one for another layer."""
    name = layer.removeprefix(PREDICTIONS)
    plain = re.sub(r"[^0-9A-Za-z_.@-]+", "-", name)
    return PREDICTED + (plain if plain == name else f"{plain}-{hash_text(name):016x}")


def seen_images(dataset: Dataset, layer: str) -> pa.Table | None:
    """The rows of a layer's table, columns of `SEEN`; None if the layer came from elsewhere."""
    table = seen_table(layer)
    return dataset.table(table) if table in dataset.commit.tables else None
