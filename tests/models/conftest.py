"""Fixtures for tests of what looks at images."""

from __future__ import annotations

from pathlib import Path

import pytest

import curate.engine.local as local
from curate.imaging import Pixels, load_pixels


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []

    def counting(path: str | Path, *, shortest_side: int | None = None) -> Pixels:
        names.append(Path(path).name)
        return load_pixels(path, shortest_side=shortest_side)

    monkeypatch.setattr(local, "load_pixels", counting)
    return names
