"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings
from typer.main import get_command

from curate.connectors.fiftyone.database import FOLDER_VARIABLE, URI_VARIABLE, database
from tests.servers.label_studio import LabelStudio, NotInstalled, installed, running
from tests.servers.mongodb import library_path

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


@pytest.fixture(scope="session", autouse=True)
def _one_command_line() -> Iterator[None]:
    """To build a command line of fifty commands takes 30 ms, and thousands of calls of it would each build the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


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


@pytest.fixture(scope="session")
def mongodb_libraries() -> str | None:
    """`LD_LIBRARY_PATH` for FiftyOne's database; tests that ask for it are skipped where there can be none."""
    if find_spec("fiftyone") is None:
        pytest.skip("FiftyOne is not installed: pip install 'curate-vision[app]'")
    try:
        return library_path()
    except NotInstalled as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def mongodb(mongodb_libraries: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running database for FiftyOne."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CURATE_HOME", str(tmp_path_factory.mktemp("fiftyone")))
            patch.delenv(URI_VARIABLE, raising=False)
            patch.delenv(FOLDER_VARIABLE, raising=False)
            if mongodb_libraries:
                patch.setenv("LD_LIBRARY_PATH", mongodb_libraries)
            uri = stack.enter_context(database())
        yield uri


def _label_studio(folder: Path) -> AbstractContextManager[LabelStudio]:
    try:
        installed()
    except NotInstalled as reason:
        pytest.skip(str(reason))
    return running(folder)
