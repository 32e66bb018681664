"""A real server, and a new project on it."""

from __future__ import annotations

import itertools

import pytest

from curate.connectors.addresses import parse_address
from curate.connectors.label_studio.connector import TOKEN, LabelStudio
from curate.formats.losses import LossReport
from tests.connectors.label_studio.label_studio_samples import address, spec
from tests.servers import label_studio as servers

markers = itertools.count()


@pytest.fixture
def server(label_studio: servers.LabelStudio, monkeypatch: pytest.MonkeyPatch) -> servers.LabelStudio:
    monkeypatch.setenv(TOKEN, label_studio.token)
    return label_studio


@pytest.fixture
def connector(server: servers.LabelStudio) -> LabelStudio:
    """A new project."""
    made = LabelStudio(parse_address(address(server)), server.token)
    made.ensure_project(spec(f"curate:test{next(markers)}"), LossReport())
    return made
