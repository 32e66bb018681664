"""How much goes into a report unless it is said; on its own, for the command's help imports it."""

from __future__ import annotations

from typing import Final

MOST_FINDINGS: Final = 5_000
"""Findings with a card."""
MAX_BYTES: Final = 10_000_000
"""Of the file."""
