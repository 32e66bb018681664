"""Tokens: a personal one is exchanged for access tokens, which are renewed in time, once, and never shown."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from curate.connectors.http import Http, Part
from curate.connectors.label_studio.login import Login
from curate.redaction import redact

T = TypeVar("T")


def web_token(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2lnbmF0dXJl"


class Refreshes(Http):
    """Stands in for the server's ``/api/token/refresh``: a new token each time, that lasts 300 s (as release 1.23.2 does)."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.given: list[str] = []

    def create(
        self,
        path: str,
        *,
        find: Callable[[], T | None],
        made: Callable[[Any], T],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        parts: Sequence[Part] = (),
    ) -> T:
        assert path == "/api/token/refresh"
        self.given.append(web_token(iat=1000, exp=1300, number=len(self.given)))
        return made({"access": self.given[-1]})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1e6]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_a_legacy_token_goes_as_it_is() -> None:
    login = Login("http://127.0.0.1:9", "0123456789abcdef" * 2)
    assert login.headers() == {"Authorization": f"Token {'0123456789abcdef' * 2}"}
    assert not login.renew()


def test_an_access_token_is_renewed_before_it_ends(now: list[float]) -> None:
    http = Refreshes()
    login = Login("", web_token(token_type="refresh"), http)
    first = login.headers()
    assert first == {"Authorization": f"Bearer {http.given[0]}"}
    now[0] += 269
    assert login.headers() == first
    now[0] += 2
    assert login.headers() == {"Authorization": f"Bearer {http.given[1]}"}
    assert redact(f"x {http.given[1]} y") == "x *** y"


def test_after_a_refusal_one_of_several_requests_asks(now: list[float]) -> None:
    http = Refreshes()
    login = Login("", web_token(token_type="refresh"), http)
    login.headers()
    now[0] += 100
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: login.renew(), range(8)))
    assert len(http.given) == 2
