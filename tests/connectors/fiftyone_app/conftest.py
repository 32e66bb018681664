"""FiftyOne with the tests' database, and a home where curate starts its own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.fiftyone.database import FOLDER_VARIABLE, URI_VARIABLE, app_folder
from curate.connectors.fiftyone.environment import connected


@pytest.fixture(scope="session")
def installed() -> None:
    """Tests that ask for it are skipped where FiftyOne is not installed. It is imported by curate alone."""
    if find_spec("fiftyone") is None:
        pytest.skip("FiftyOne is not installed: pip install 'curate-vision[app]'")


@pytest.fixture(scope="session")
def uri(mongodb: str) -> str:
    """The address of a running database."""
    return mongodb


@pytest.fixture
def fiftyone(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, connected to a database without datasets."""
    monkeypatch.setenv(URI_VARIABLE, uri)
    with connected() as package:
        yield package
        package.delete_datasets("*")


@pytest.fixture
def own_database(mongodb_libraries: str | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which curate starts a database of its own; its folder for FiftyOne."""
    for name in (URI_VARIABLE, FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    if mongodb_libraries:
        monkeypatch.setenv("LD_LIBRARY_PATH", mongodb_libraries)
    return app_folder()
