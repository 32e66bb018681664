"""Connectors that do not wait between tries, and the services with a proxy before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from curate.connectors.cvat.server import Server
from curate.connectors.http import Http
from curate.connectors.label_studio import api as label_studio_api
from curate.connectors.roboflow.connector import Roboflow
from tests.connectors.faults.fault_worlds import CvatWorld, LabelStudioWorld, RoboflowWorld, World
from tests.servers import cvat as cvat_server
from tests.servers import fault_proxy
from tests.servers import label_studio as label_studio_server
from tests.servers import roboflow as roboflow_server

_PAUSE = 0.001


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as users wait, tests would for hours: only how long is changed, not what is done."""
    for waits, pauses in ((Http, ["pause"]), (Roboflow, ["pause"]), (Server, ["pause", "poll"])):
        for name in pauses:
            monkeypatch.setitem(waits.__init__.__kwdefaults__, name, _PAUSE)  # type: ignore[arg-type]
    monkeypatch.setattr(label_studio_api, "_LOOKS", (0.0, _PAUSE))


@pytest.fixture
def proxy() -> Iterator[fault_proxy.Proxy]:
    """A proxy that lets everything pass until it is told otherwise."""
    with fault_proxy.running() as proxy:
        yield proxy


@pytest.fixture
def roboflow(proxy: fault_proxy.Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The stand-in for Roboflow; its API and the host of its files are behind the proxy."""
    with roboflow_server.running() as service:
        service.files = proxy.in_front_of(service.files)
        monkeypatch.setenv("API_URL", proxy.in_front_of(service.base))
        monkeypatch.setenv("CURATE_ROBOFLOW_LABELER", "ann@example.com")
        yield _let_in(RoboflowWorld(proxy, service), monkeypatch)


@pytest.fixture
def cvat(proxy: fault_proxy.Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The stand-in for CVAT."""
    with cvat_server.running() as server:
        host = proxy.in_front_of(server.url).removeprefix("http://")
        yield _let_in(CvatWorld(proxy, server, f"cvat://{host}"), monkeypatch)
        assert server.unknown == [], "a call that CVAT does not have"


@pytest.fixture
def label_studio_behind(
    proxy: fault_proxy.Proxy, label_studio: label_studio_server.LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A real Label Studio server."""
    host = proxy.in_front_of(label_studio.url).removeprefix("http://")
    world = LabelStudioWorld(proxy, label_studio, f"labelstudio://{host}")
    yield _let_in(world, monkeypatch)
    world.clear()


@pytest.fixture(params=["roboflow", "cvat"])
def stand_in(request: pytest.FixtureRequest) -> World:
    """Each service that is a stand-in."""
    world: World = request.getfixturevalue(request.param)
    return world


@pytest.fixture(params=["roboflow", "cvat", "label_studio_behind"])
def world(request: pytest.FixtureRequest) -> World:
    """Each service."""
    world: World = request.getfixturevalue(request.param)
    return world


def _let_in(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv(*world.token)
    return world
