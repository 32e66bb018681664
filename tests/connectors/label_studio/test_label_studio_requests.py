"""What is sent again after a lost reply, and what is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from curate.connectors.addresses import Address, parse_address
from curate.connectors.base import Item
from curate.connectors.http import UncertainError
from curate.connectors.label_studio import create
from curate.connectors.label_studio.api import send_once
from curate.connectors.label_studio.connector import LabelStudio
from curate.errors import InputError, UsageError
from tests.connectors.label_studio.label_studio_samples import new_item


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


class Server:
    """Keeps what it is sent, as often as it is sent; some replies are lost, of some requests after a part was done."""

    def __init__(self, *lost: int | None) -> None:
        self.kept: list[str] = []
        self.requests: list[list[str]] = []
        self.lost = list(lost)

    def send(self, some: Mapping[str, int]) -> dict[str, int]:
        self.requests.append(list(some))
        done = self.lost.pop(0) if self.lost else None
        self.kept += list(some)[:done]
        if done is not None:
            raise UncertainError("the reply was lost", where="x", remedy="")
        return dict(some)

    def look(self) -> dict[str, int]:
        return dict.fromkeys(self.kept, 0)


@pytest.mark.parametrize(
    ("lost", "requests"),
    [
        ((), [["a", "b", "c"]]),
        ((3,), [["a", "b", "c"]]),
        ((0,), [["a", "b", "c"], ["a", "b", "c"]]),
        ((1,), [["a", "b", "c"], ["b", "c"]]),
        ((1, 1, 1), [["a", "b", "c"], ["b", "c"], ["c"]]),
    ],
)
def test_only_what_is_not_there_is_sent_again(lost: tuple[int, ...], requests: list[list[str]]) -> None:
    server = Server(*lost)
    assert send_once({"a": 0, "b": 0, "c": 0}, server.send, server.look).keys() == {"a", "b", "c"}
    assert server.requests == requests
    assert server.kept == ["a", "b", "c"]


def test_a_server_that_never_answers_is_not_asked_for_ever() -> None:
    server = Server(0, 0, 0, 0)
    with pytest.raises(UncertainError):
        send_once({"a": 0}, server.send, server.look)
    assert len(server.requests) == 3


def test_a_server_that_goes_on_by_itself_is_waited_for() -> None:
    looks = iter([{}, {"a": 1}, {"a": 1, "b": 2}])
    assert send_once({"a": 0, "b": 0}, lambda _: None, lambda: next(looks)) == {"a": 1, "b": 2}


def test_no_answer_waits_on_a_kept_connection() -> None:
    """A server without a proxy before it answers in two parts; on a kept connection the second comes 40 ms late."""
    ports: list[int] = []

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ports.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = parse_address(f"labelstudio://127.0.0.1:{server.server_port}/projects/7")
        connector = LabelStudio(address, "t")
        item = Item("5", "x", "v", metadata={"label_studio": {"data": {"image": "/data/upload/7/x.png"}}})
        for _ in range(3):
            connector.project()
            connector.download(item)
        server.shutdown()
    assert len(ports) == len(set(ports)) == 9


def test_batches_hold_what_a_request_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_FILES_OF_A_BATCH", 3)
    items = [new_item(number, tmp_path) for number in range(7)]
    assert [len(batch) for batch in create._batches(items)] == [3, 3, 1]
    monkeypatch.setattr(create, "_BYTES_OF_A_BATCH", items[0].path.stat().st_size * 2)
    assert [len(batch) for batch in create._batches(items)] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("name", "start", "ending"),
    [
        ("a.JPG", b"", ".jpg"),
        ("a.jfif", b"\xff\xd8\xff\xe0", ".jpg"),
        ("a", b"\x89PNG", ".png"),
        ("a.tif", b"II*\0", None),
    ],
)
def test_files_that_browsers_show(name: str, start: bytes, ending: str | None) -> None:
    assert create._ending(name, start) == ending


@pytest.mark.parametrize("path", ["project/7", "projects/x", "projects/7/settings"])
def test_addresses_of_something_else(path: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        LabelStudio(parse_address(f"labelstudio://127.0.0.1:9/{path}"), "t")


def test_addresses_of_projects() -> None:
    made = LabelStudio(parse_address("labelstudio://example.com/projects/7/data"), "t")
    assert made.address == Address("labelstudio", "example.com", "projects/7")
    assert made.link_of(Item("5/image.1", "x", "v")) == "https://example.com/projects/7/data?task=5"
    with pytest.raises(UsageError, match="names no project"):
        LabelStudio(parse_address("labelstudio://127.0.0.1:9"), "t").project()


def test_images_inside_tasks_and_in_clouds() -> None:
    connector = LabelStudio(parse_address("labelstudio://127.0.0.1:9/projects/7"), "t")

    def item(reference: str) -> Item:
        return Item("5", "x", "v", metadata={"label_studio": {"data": {"image": reference}}})

    assert connector.download(item("data:image/png;base64,aGVsbG8=")) == b"hello"
    with pytest.raises(InputError, match="inside the task"):
        connector.download(item("data:image/png;base64,a"))
    for reference in ("gs://bucket/a.jpg", "folder/a.jpg", "file:///etc/passwd"):
        with pytest.raises(InputError, match="only the server can read"):
            connector.download(item(reference))
