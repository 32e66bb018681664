"""A token shows nowhere: not on the screen, in a traceback, in a log, or in anything that is kept; whatever goes wrong."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.dataset.home import dataset_names, home
from tests.connectors.faults.fault_rounds import copied, dataset
from tests.connectors.faults.fault_worlds import NAME, LabelStudioWorld, World
from tests.servers.fault_proxy import Fault
from tests.servers.keyrings import MemoryKeyring, in_use

WRONG = "f00dface" * 5
MANY = 200
ECHOES = (200, 302, 400, 401, 403, 404, 409, 500)


class Watch:
    """Everything that was said, shown and kept while commands ran."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self._shown: list[str] = []
        log.set_level(logging.DEBUG)

    def curate(self, *arguments: str, given: str | None = None) -> int:
        """Run a command; its exit status, which is never that of a fault in curate itself."""
        result = CliRunner().invoke(app, [*arguments, "--debug"], input=given)
        self._shown += [result.stdout, result.stderr, repr(result.exception)]
        assert result.exit_code in (0, 2, 3), result.output
        return result.exit_code

    def everything(self) -> str:
        """All of it."""
        kept = [path.read_bytes().decode("latin-1") for path in home().rglob("*") if path.is_file()]
        names = [str(path) for path in home().rglob("*")]
        tables = [
            str(data.table(table).to_pylist())
            for data in map(open_dataset, dataset_names())
            for table in ("images", "annotations", "findings", "links")
        ]
        return "\n".join([*self._shown, self._log.text, *kept, *names, *tables])

    def assert_hides(self, *secrets: str) -> None:
        """Nothing of it shows a secret, in any form that one takes on the way."""
        text = self.everything()
        for secret in secrets:
            forms = {
                secret,
                quote(secret, safe=""),
                json.dumps(secret)[1:-1],
                base64.b64encode(secret.encode()).decode(),
            }
            found = [text.index(form) for form in forms if form in text]
            assert not found, [text[max(0, place - 200) : place] for place in found]


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Watch:
    return Watch(caplog)


@pytest.fixture
def server(stand_in: World, tmp_path: Path) -> World:
    """A service, a dataset to push to it, and a project there that can be pulled."""
    return _ready(stand_in, tmp_path)


@pytest.fixture
def real_server(label_studio_behind: World, tmp_path: Path) -> World:
    """The same, of the service whose server is a real one."""
    return _ready(label_studio_behind, tmp_path)


def _ready(world: World, folder: Path) -> World:
    dataset(folder / "set", 2)
    assert CliRunner().invoke(app, _push(world.address, copied(NAME))).exit_code == 0
    world.proxy.credentials.clear()
    return world


def _push(address: str, name: str = NAME) -> list[str]:
    return ["push", "-d", name, address, "--findings", "score > 0"]


def _in_environment(world: World, watch: Watch, token: str) -> None:
    os.environ[world.token[0]] = token  # the fixture of the world takes it out again


def _in_keyring(world: World, watch: Watch, token: str) -> None:
    del os.environ[world.token[0]]
    assert watch.curate("login", world.project(), given=f"{token}\n") == 0


SOURCES = [_in_environment, _in_keyring]
Source = Callable[[World, Watch, str], None]


def use(world: World, watch: Watch, source: Source, token: str) -> None:
    """Every command that asks a server, with success."""
    with in_use(MemoryKeyring()):
        source(world, watch, token)
        for command in (
            _push(world.address, copied(NAME)),
            _push(world.project(), f"{NAME}-0"),
            ["pull", "-d", f"{NAME}-0", world.project()],
            ["import", "-d", "imported", world.project(), "--json"],
            ["history", "-d", "imported"],
            ["info", "-d", "imported"],
        ):
            assert watch.curate(*command) == 0
    assert world.proxy.credentials
    assert "urllib3" in watch.everything()
    watch.assert_hides(token, *world.proxy.credentials)


@pytest.mark.parametrize("source", SOURCES)
def test_while_all_is_well(server: World, watch: Watch, source: Source) -> None:
    use(server, watch, source, server.token[1])


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_while_all_is_well_on_a_real_server(real_server: World, watch: Watch, source: Source, kind: str) -> None:
    assert isinstance(real_server, LabelStudioWorld)
    token = real_server.token[1] if kind == "legacy" else real_server.server.personal_token()
    use(real_server, watch, source, token)
    if kind == "personal":
        assert token not in real_server.proxy.credentials  # what it was exchanged for is


FAILURES: dict[str, tuple[dict[int, Fault], int | None]] = {
    "429": (dict.fromkeys(range(MANY), "429"), None),
    "500": (dict.fromkeys(range(MANY), "500"), None),
    "504": (dict.fromkeys(range(MANY), "504"), None),
    "truncated": (dict.fromkeys(range(MANY), "truncated"), None),
    "lost": (dict.fromkeys(range(MANY), "lost"), None),
    "cut": ({}, 0),
    "cut later": ({}, 4),
}


def fail(world: World, watch: Watch, failure: str) -> None:
    """Every command that asks a server, without success."""
    script, down_from = FAILURES[failure]
    project = world.project()
    for command in (_push(world.address), ["pull", "-d", NAME, project], ["import", "-d", "imported", project]):
        world.proxy.play(script, down_from=down_from)
        assert watch.curate(*command) == 3
    watch.assert_hides(world.token[1], *world.proxy.credentials)
    assert "Traceback" in watch.everything()


@pytest.mark.parametrize("failure", list(FAILURES))
def test_when_the_server_fails(server: World, watch: Watch, failure: str) -> None:
    fail(server, watch, failure)


@pytest.mark.slow
@pytest.mark.parametrize("failure", list(FAILURES))
def test_when_a_real_server_fails(real_server: World, watch: Watch, failure: str) -> None:
    fail(real_server, watch, failure)


def be_refused(world: World, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that is not there, and a token that lets nobody in."""
    project = world.project()
    absent = f"{world.address}/nothing" if world.address.startswith("roboflow") else f"{world.address}/projects/999999"
    for command in (_push(absent), ["pull", "-d", NAME, absent], ["import", "-d", "imported", absent]):
        assert watch.curate(*command) == 2
    monkeypatch.setenv(world.token[0], WRONG)
    for command in (_push(world.address), ["pull", "-d", NAME, project], ["import", "-d", "imported", project]):
        assert watch.curate(*command) == 3
    assert WRONG in world.proxy.credentials
    watch.assert_hides(world.token[1], *world.proxy.credentials)


def test_when_the_server_refuses(server: World, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    be_refused(server, watch, monkeypatch)


@pytest.mark.slow
def test_when_a_real_server_refuses(real_server: World, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    be_refused(real_server, watch, monkeypatch)


@contextmanager
def echo(status: int) -> Iterator[str]:
    """A server that answers every request with all that it was sent, as a text; its host."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = f"{self.headers.get('Authorization')} {self.path}".encode() + body[:1000]
            self.send_response(status, "Said")
            self.send_header("Content-Length", str(len(said)))
            if status == 302:
                self.send_header("Location", f"http://{self.headers['Host']}{self.path}&again")
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815 - as http.server calls them

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(watch: Watch, monkeypatch: pytest.MonkeyPatch, host: str, service: str) -> None:
    """Ask another program than the service."""
    token = "a+token/with=odd%41characters&more"
    variable = {"roboflow": "ROBOFLOW_API_KEY", "cvat": "CVAT_TOKEN", "labelstudio": "LABEL_STUDIO_API_KEY"}[service]
    monkeypatch.setenv(variable, token)
    monkeypatch.setenv("API_URL", f"http://{host}")
    address = "roboflow://acme/parts" if service == "roboflow" else f"{service}://{host}/projects/1"
    for command in (_push(address), ["pull", "-d", NAME, address], ["import", "-d", "imported", address]):
        assert watch.curate(*command) in (2, 3)
    watch.assert_hides(token)


@pytest.mark.parametrize("service", ["roboflow", "cvat", "labelstudio"])
def test_when_a_server_says_the_token_back(
    service: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset(tmp_path / "set", 1)
    for status in ECHOES:
        with echo(status) as host:
            ask(watch, monkeypatch, host, service)


@pytest.mark.parametrize("service", ["roboflow", "cvat", "labelstudio"])
@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:9"])
def test_when_nobody_is_there(
    service: str, host: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset(tmp_path / "set", 1)
    ask(watch, monkeypatch, host, service)
