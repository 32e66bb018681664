"""One small rendered set that the demo's tests share."""

from __future__ import annotations

import pytest

from curate.demo import FaultRates, PartsSet, make_parts

RATES = FaultRates(impossible=0.02, exact_duplicate=0.06, near_duplicate=0.06, leak=0.06, dark=0.05, blurry=0.05)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> PartsSet:
    """50 images with every kind of fault."""
    return make_parts(tmp_path_factory.mktemp("demo") / "parts", images=50, seed=3, faults=RATES)
