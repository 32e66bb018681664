"""Servers that the connectors' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.label_studio import LabelStudio, NotInstalled, installed, running


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A real Label Studio server; the tests that ask for it are skipped where it cannot be installed."""
    try:
        installed()
    except NotInstalled as reason:
        pytest.skip(str(reason))
    with running(tmp_path_factory.mktemp("label-studio")) as server:
        yield server
