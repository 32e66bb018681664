"""The checks curate knows, by name. A third party adds one by an entry point in the group ``curate.checks``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.registry import Registry

if TYPE_CHECKING:  # the command line lists the names without loading Arrow
    from curate.checks.base import Check

CHECKS: Registry[Check] = Registry(
    "check",
    {
        "quality": "curate.checks.quality.check:CHECK",
        "duplicates": "curate.checks.duplicates.check:CHECK",
        "leaks": "curate.checks.leaks.check:CHECK",
        "mistakes": "curate.checks.mistakes.run:CHECK",
        "outliers": "curate.checks.outliers.check:CHECK",
        "shift": "curate.checks.shift.check:CHECK",
        "depth": "curate.checks.depth.check:CHECK",
    },
)
