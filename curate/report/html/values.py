"""Numbers and texts as a page has them: short, and such that JSON can hold them."""

from __future__ import annotations

import math
from typing import Any, Final

_LONGEST: Final = 200


def short_number(value: Any) -> float | int | None:
    """A number of four digits; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.4g}")


def cut(text: str) -> str:
    """A text's first 200 characters."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
