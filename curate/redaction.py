"""Secrets that are in use, and texts without them: nothing that curate prints, logs or stores holds a token."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

_MASK: Final = "***"
_SHORTEST: Final = 6
_secrets: set[str] = set()


def hide(secret: str) -> str:
    """Remember a secret, so that `redact` takes it out of every text; returns it."""
    for form in (secret, quote(secret, safe="")):
        # A shorter one would tear holes into texts that have nothing to do with it, and is no secret.
        if len(form) >= _SHORTEST:
            _secrets.add(form)
    return secret


def redact(text: str) -> str:
    """The text with every remembered secret replaced by ``***``."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return text
