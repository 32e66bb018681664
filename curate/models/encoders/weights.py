"""Telling one version of a weights file from another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

_SAMPLE_BYTES: Final = 1 << 20


def weights_digest(path: Path) -> str:
    """Eight hexadecimal digits that change with a weights file: of its size, first and last megabyte.

    A whole-file hash of a gigabyte would take longer than loading it; training moves every byte.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=4)
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, size - _SAMPLE_BYTES))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
