"""A CVAT server for the connector's tests: the one at ``CVAT_URL`` where it and ``CVAT_TOKEN`` are set, else the stand-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.connectors.cvat.cvat_cases import Site
from tests.servers import cvat as servers


@pytest.fixture
def cvat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server, with nothing in it that the test has not made; what the test makes is removed."""
    url, token = os.environ.get("CVAT_URL", "").rstrip("/"), os.environ.get("CVAT_TOKEN", "")
    if url and token:
        site = Site(url, token, None)
        yield site
        site.clear()
        return
    monkeypatch.setenv("CVAT_TOKEN", servers.TOKEN)
    with servers.running() as stand_in:
        yield Site(stand_in.url, stand_in.token, stand_in)
        assert stand_in.unknown == [], "a call that CVAT does not have"


@pytest.fixture
def stand_in(cvat: Site) -> servers.Cvat:
    """The stand-in, for tests that look into it or make it fail; skipped where a real server is given."""
    if cvat.stand_in is None:
        pytest.skip("needs a server that fails when it is told to: unset CVAT_URL")
    return cvat.stand_in


@pytest.fixture
def annotator(cvat: Site) -> Any:
    """A person's own client: the SDK, whose models check every reply."""
    return cvat.client()
