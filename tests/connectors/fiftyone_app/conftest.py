"""FiftyOne's database, started once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.fiftyone.database import FOLDER_VARIABLE, URI_VARIABLE, app_folder, database
from curate.connectors.fiftyone.environment import connected
from tests.servers.label_studio import NotInstalled
from tests.servers.mongodb import library_path


@pytest.fixture(scope="session")
def installed() -> None:
    """Tests that ask for it are skipped where FiftyOne is not installed. It is imported by curate alone."""
    if find_spec("fiftyone") is None:
        pytest.skip("FiftyOne is not installed: pip install 'curate-vision[app]'")


@pytest.fixture(scope="session")
def libraries(installed: None) -> str | None:
    """`LD_LIBRARY_PATH` for the database; tests that ask for it are skipped where there can be no database."""
    try:
        return library_path()
    except NotInstalled as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def uri(libraries: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running database."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("CURATE_HOME", str(tmp_path_factory.mktemp("fiftyone")))
        patch.delenv(URI_VARIABLE, raising=False)
        patch.delenv(FOLDER_VARIABLE, raising=False)
        if libraries:
            patch.setenv("LD_LIBRARY_PATH", libraries)
        yield stack.enter_context(database())


@pytest.fixture
def fiftyone(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, connected to a database without datasets."""
    monkeypatch.setenv(URI_VARIABLE, uri)
    with connected() as package:
        yield package
        package.delete_datasets("*")


@pytest.fixture
def own_database(libraries: str | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which curate starts a database of its own; its folder for FiftyOne."""
    for name in (URI_VARIABLE, FOLDER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    if libraries:
        monkeypatch.setenv("LD_LIBRARY_PATH", libraries)
    return app_folder()
