"""A server that refuses, is down or is no CVAT: one clear error each, without the token in it."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.cvat.server import Server
from curate.connectors.http import RefusedError
from curate.connectors.registry import CONNECTORS, connect
from curate.errors import InputError, MissingExtra, UnavailableError
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import Site, box, listed, new_item
from tests.servers import cvat as servers
from tests.servers.cvat_model import Json, Model


def told(error: BaseException) -> str:
    """All that could be shown of an error, its traceback with every frame's names among it."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=False).format()
    return "".join(lines) + repr(error)


def test_a_bad_token_is_refused_and_not_shown(cvat: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAT_TOKEN", "pat-wrong.this-token-is-wrong")
    with pytest.raises(UnavailableError, match=r"refuses the token \(401\)") as caught:
        listed(cvat.connector("projects/1"))
    assert "this-token-is-wrong" not in told(caught.value)


def test_a_token_that_may_only_read_cannot_write(
    cvat: Site, stand_in: servers.Cvat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cvat.made().address.path
    monkeypatch.setenv("CVAT_TOKEN", servers.READ_ONLY)
    connector = cvat.connector(path)
    assert listed(connector) == []
    with pytest.raises(UnavailableError, match=r"\(403\)") as caught:
        connector.create([new_item(tmp_path, "a.png", [box()])], losses=LossReport())
    assert servers.READ_ONLY not in told(caught.value)


def test_an_older_key_is_taken_as_well(cvat: Site, stand_in: servers.Cvat, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cvat.made().address.path
    monkeypatch.setenv("CVAT_TOKEN", servers.OLD_KEY)
    assert listed(cvat.connector(path)) == []


@pytest.mark.parametrize("path", ["projects/987654321", "tasks/987654321", "jobs/987654321"])
def test_what_is_not_there_is_told_with_its_address(path: str, cvat: Site) -> None:
    for ask in (lambda: listed(cvat.connector(path)), lambda: cvat.connector(path).project()):
        kind = path.partition("s/")[0]
        with pytest.raises(InputError, match=rf"{path}: there is no such {kind} \(check the number in the address"):
            ask()
    with pytest.raises(InputError, match="there is no such"):
        cvat.connector(path).ensure_project(cvat.spec(), LossReport())


def test_the_sdk_leaves_others_logs_as_they_are(cvat: Site) -> None:
    logger = logging.getLogger("urllib3")
    before = logger.level
    try:
        for level in (logging.DEBUG, logging.ERROR):
            logger.setLevel(level)
            cvat.connector("projects/1")
            assert logger.level == level
    finally:
        logger.setLevel(before)


def test_a_server_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAT_TOKEN", servers.TOKEN)
    server = Server("http://127.0.0.1:9", servers.TOKEN, pause=0.001)
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        server.get("/api/projects/1")
    assert servers.TOKEN not in told(caught.value)


def test_a_server_that_is_no_cvat_is_told(cvat: Site, stand_in: servers.Cvat, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers import cvat_calls

    def page(model: Model, asked: Any, ids: list[int]) -> Any:
        return cvat_calls.Reply(200, b"<html>hello</html>")

    routes = [(method, pattern, page) for method, pattern, _ in cvat_calls.ROUTES]
    monkeypatch.setattr(servers, "ROUTES", routes)
    with pytest.raises(InputError, match="not JSON"):
        listed(cvat.connector("projects/1"))


def test_a_refusal_says_what_the_server_says(cvat: Site, stand_in: servers.Cvat, tmp_path: Path) -> None:
    connector = cvat.made()
    stand_in.fault = lambda method, path: 400 if method == "PUT" else None
    with pytest.raises(RefusedError, match="told to"):
        connector.create([new_item(tmp_path, "a.png", [box()])], losses=LossReport())


def test_workers_that_do_nothing_are_told(cvat: Site, stand_in: servers.Cvat) -> None:
    server = Server(cvat.url, cvat.token, pause=0.001, poll=0.001, patience=0.05)
    idle: Json = {"id": "x", "task": 0, "options": {}, "looks": -(10**9), "created_date": stand_in.model.now()}
    stand_in.model.requests["x"] = idle
    with pytest.raises(UnavailableError, match="workers are running"):
        server.wait("x")


def test_without_the_sdk_the_extra_is_named(cvat: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cvat_sdk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(MissingExtra, match=r"curate-vision\[cvat\]"):
        cvat.connector("projects/1")


def test_without_a_token_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAT_TOKEN", raising=False)
    monkeypatch.setattr("curate.connectors.tokens._from_keyring", lambda name: "")
    with pytest.raises(UnavailableError, match="set CVAT_TOKEN, or run 'curate login"):
        connect("cvat://cvat.example.com/projects/3")


def test_the_registry_loads_no_sdk() -> None:
    code = (
        "import sys; from curate.connectors.registry import CONNECTORS; CONNECTORS.get('cvat');"
        " sys.exit('cvat_sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert CONNECTORS.get("cvat").token == "CVAT_TOKEN"


def test_the_sdk_says_nothing_and_asks_nobody(
    cvat: Site,
    stand_in: servers.Cvat,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    connector = cvat.made()
    connector.create([new_item(tmp_path, "a.png", [box()])], losses=LossReport())
    listed(connector)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if "cvat" in record.name]
    assert not [each for each in stand_in.seen if "/api/server/" in each]
    assert cvat.token not in repr(connector.address) + repr(vars(connector))


# --------------------------------------------------------------------------------------------- the stand-in keeps its word


def status_of(cvat: Site, method: str, path: str, body: bytes = b"") -> int:
    request = urllib.request.Request(cvat.url + path, data=body or None, method=method)
    request.add_header("Authorization", f"Bearer {cvat.token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def test_the_stand_in_is_strict(cvat: Site, stand_in: servers.Cvat) -> None:
    assert status_of(cvat, "GET", "/api/nothing") == 404
    assert stand_in.unknown == ["GET /api/nothing"]
    stand_in.unknown.clear()
    assert status_of(cvat, "POST", "/api/projects", b"{not json") == 400
    assert status_of(cvat, "POST", "/api/projects", b"{}") == 400
    assert status_of(cvat, "POST", "/api/projects", b'{"name": 5}') == 400
    assert status_of(cvat, "GET", "/api/tasks?page=2") == 404


def test_two_files_of_one_name_are_refused_by_the_server(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    from cvat_sdk import exceptions, models

    connector = cvat.made()
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        item = new_item(tmp_path / folder, f"{folder}.png")
        paths.append(item.path.rename(tmp_path / folder / "same.png"))
    request = models.TaskWriteRequest(name="same", project_id=int(connector.address.path.partition("/")[2]))
    with pytest.raises(exceptions.ApiException):
        annotator.tasks.create_from_data(request, paths)
    assert connector.project().details["tasks"] == 1
    assert listed(connector) == []
