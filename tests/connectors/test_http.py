"""The HTTP client against a server that fails in every way a server can."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from curate.connectors.http import TRIES, Http, Part, RefusedError, UncertainError
from curate.errors import InputError, UnavailableError
from curate.redaction import hide, redact


@dataclass
class Server:
    """A server that answers by a script: one word for each request, 'ok' once they are used up."""

    script: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    made: list[bytes] = field(default_factory=list)
    headers: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.seen.append((self.command, self.path))
            state.headers.append(self.headers.get("Authorization"))
            word = state.script.pop(0) if state.script else "ok"
            if word in ("ok", "lost", "500 late", "truncated") and self.command == "POST":
                state.made.append(body)
            if word in ("cut", "lost"):
                self.close_connection = True
                self.connection.close()
                return
            if word.startswith("to "):
                self.send_response(302)
                self.send_header("Location", word.removeprefix("to "))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = b'{"made": 1}' if word in ("ok", "truncated") else b"no: key-123456"
            self.send_response({"ok": 200, "truncated": 200, "html": 200}.get(word) or int(word.split()[0]))
            if word == "429 now":
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(content) + (5 if word == "truncated" else 0)))
            self.end_headers()
            self.wfile.write(content)
            if word == "truncated":
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - as http.server calls them

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def http(server: Server, **options: object) -> Http:
    return Http(server.url, pause=0.001, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["429 now", "500", "502", "503", "504", "cut", "truncated"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_what_may_be_asked_again_is(server: Server, method: str, word: str) -> None:
    server.script = [word, word]
    assert http(server).request(method, "/x") == {"made": 1}
    assert len(server.seen) == 3


def test_a_server_that_stays_down_is_given_up_with_a_remedy(server: Server) -> None:
    server.script = ["503"] * 99
    with pytest.raises(UnavailableError, match="answers 503, 5 times") as caught:
        http(server).get("/x")
    assert len(server.seen) == TRIES
    assert "nothing is doubled" in str(caught.value.remedy)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Http("http://127.0.0.1:9", pause=0.001).get("/")


@pytest.mark.parametrize("word", ["cut", "lost", "truncated", "500 late"])
def test_a_post_is_looked_for_before_it_is_sent_again(server: Server, word: str) -> None:
    server.script = [word]
    found = http(server).create(
        "/make", body={"a": 1}, find=lambda: len(server.made) or None, made=lambda reply: reply["made"]
    )
    assert found == 1
    assert len(server.made) == 1


@pytest.mark.parametrize("word", ["429 now", "503"])
def test_a_post_that_did_nothing_is_sent_again(server: Server, word: str) -> None:
    server.script = [word]
    assert http(server).post("/make", body={"a": 1}) == {"made": 1}
    assert len(server.made) == 1


def test_a_post_without_a_way_to_look_is_not_sent_twice(server: Server) -> None:
    server.script = ["lost"]
    with pytest.raises(UncertainError):
        http(server).post("/make", body={})
    assert len(server.made) == 1


def test_files_go_as_multipart(server: Server) -> None:
    http(server).post("/up", body={"name": "a"}, parts=[Part("file", "ä.png", b"\x89PNG", "image/png")])
    assert b"\x89PNG" in server.made[0]
    assert b'name="name"' in server.made[0]


def test_what_a_server_refuses_is_told_with_its_words_and_without_the_secret(server: Server) -> None:
    hide("key-123456")
    server.script = ["400"]
    with pytest.raises(RefusedError) as caught:
        http(server, query={"api_key": "key-123456"}).get("/x")
    assert caught.value.status == 400
    assert "no: ***" in str(caught.value)
    assert "key-123456" not in repr(caught.value)
    assert "key-123456" in server.seen[0][1]


def test_an_expired_token_is_renewed_once(server: Server) -> None:
    tokens = ["old", "new"]
    server.script = ["401"]

    def renew() -> bool:
        tokens.pop(0)
        return True

    client = http(server, headers=lambda: {"Authorization": tokens[0]}, renew=renew)
    assert client.get("/x") == {"made": 1}
    assert server.headers == ["old", "new"]
    server.script = ["401"]
    with pytest.raises(UnavailableError, match="refuses the token"):
        http(server, renew=lambda: False).get("/x")


def test_a_file_that_lies_on_another_host_is_fetched_without_the_token(server: Server) -> None:
    there = server.url.replace("127.0.0.1", "localhost")
    server.script = [f"to {there}/file"]
    client = http(server, headers=lambda: {"Authorization": "Token key-123456"})
    assert client.get_bytes("/x") == b'{"made": 1}'
    assert [path for _, path in server.seen] == ["/x", "/file"]
    assert server.headers == ["Token key-123456", None]


def test_another_program_at_the_address_is_told(server: Server) -> None:
    server.script = ["html"]
    with pytest.raises(InputError, match="not JSON"):
        http(server).get("/x")


def test_redaction_takes_out_every_form_of_a_secret() -> None:
    hide("s3cr/t token")
    assert redact("a s3cr/t token, s3cr%2Ft%20token") == "a ***, ***"
    hide("abc")
    assert redact("abc") == "abc"
