"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.label_studio import LabelStudio, NotInstalled, installed, running

# How long an example takes depends on what else the machine does.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SHARED_DATA = Path(os.environ.get("CURATE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def shared_data() -> Path:
    """Folder of real public data for tests; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real test data is not here; set CURATE_TEST_DATA to its folder")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a store of its own, and never sees the user's settings."""
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "curate-home"))
    monkeypatch.delenv("CURATE_DATASET", raising=False)


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A real Label Studio server; the tests that ask for it are skipped where it cannot be installed."""
    with _label_studio(tmp_path_factory.mktemp("label-studio")) as server:
        yield server


@pytest.fixture
def new_label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """The same for one test alone: its first project is number 1."""
    with _label_studio(tmp_path_factory.mktemp("label-studio")) as server:
        yield server


def _label_studio(folder: Path) -> AbstractContextManager[LabelStudio]:
    try:
        installed()
    except NotInstalled as reason:
        pytest.skip(str(reason))
    return running(folder)
