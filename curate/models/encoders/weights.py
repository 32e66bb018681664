"""Weights files, and telling one version of them from another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".pt", ".pth", ".bin"})
"""File endings taken for weights of torch."""

_SAMPLE_BYTES: Final = 1 << 20


def weights_digest(*paths: Path) -> str:
    """Eight hexadecimal digits that change with weights files: of the size, the first and the last megabyte of each.

    A whole-file hash of a gigabyte would take longer than loading it; training moves every byte.
    """
    digest = hashlib.blake2b(digest_size=4)
    for path in paths:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "big"))
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
