"""Fine-grained transfer: it beats the same network from scratch, swapped labels are found, and heat is where the slot is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_fine_grained(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("fine_grained")
    accuracy, mislabeled = result["accuracy"], result["mislabeled"]
    assert accuracy["transfer"] > 0.35  # four kinds: 0.25 by chance
    assert accuracy["transfer"] > accuracy["scratch"]
    assert accuracy["low"] <= accuracy["transfer"] - accuracy["scratch"] <= accuracy["high"]
    assert mislabeled["planted"] == 24
    # A tenth of what is flagged by chance would be wrong.
    assert mislabeled["flagged"] > 0
    assert mislabeled["right"] > 0.3 * mislabeled["flagged"]
    assert len(set(result["pair"])) == 2
    heat = result["heat"]["all"]
    assert heat["pictures"] > 50
    assert heat["of the heat"] > 1.5 * heat["of the picture"]
    assert heat["of the heat"] > 1.5 * heat["of the heat, mirrored"]
