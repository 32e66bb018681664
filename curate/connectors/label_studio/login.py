"""Tokens of Label Studio (https://labelstud.io/guide/access_tokens): legacy ones go with every request, personal access tokens
are exchanged for one that lasts five minutes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from curate.connectors.http import Http
from curate.errors import UnavailableError
from curate.formats.values import mapping, number
from curate.redaction import hide

_LIFETIME: Final = 300.0
_EARLY: Final = 30.0
_JUST_NOW: Final = 5.0


class Login:
    """Authorizes requests.

    Args:
        base: The server's address.
        token: Of either kind.
        http: Asks for access tokens; none of its own is sent.
    """

    def __init__(self, base: str, token: str, http: Http | None = None) -> None:
        self._token = token
        self._is_personal = _claims(token) is not None
        self._http = http or Http(base)
        self._lock = threading.Lock()
        self._access = ""
        self._renewed = self._expires = float("-inf")

    def headers(self) -> Mapping[str, str]:
        """The header of a request; a new access token is fetched before the old one expires."""
        if not self._is_personal:
            return {"Authorization": f"Token {self._token}"}
        with self._lock:
            if time.monotonic() > self._expires - _EARLY:
                self._fetch()
            return {"Authorization": f"Bearer {self._access}"}

    def renew(self) -> bool:
        """After a 401: whether there is another token to try. Of several requests at once, one fetches it."""
        if not self._is_personal:
            return False
        with self._lock:
            if time.monotonic() - self._renewed > _JUST_NOW:
                self._fetch()
        return True

    def _fetch(self) -> None:
        reply = self._http.create(
            "/api/token/refresh", body={"refresh": self._token}, find=_nothing, made=lambda said: said
        )
        access = mapping(reply).get("access")
        if not isinstance(access, str):
            raise UnavailableError("the server gives no access token for this personal access token")
        claims = _claims(hide(access)) or {}
        issued, expires = number(claims.get("iat")), number(claims.get("exp"))
        lifetime = expires - issued if expires is not None and issued is not None else _LIFETIME
        self._access = access
        self._renewed = time.monotonic()
        self._expires = self._renewed + max(lifetime, 2 * _EARLY)


def _nothing() -> None:
    """A lost access token need not be found again: another is as good."""


def _claims(token: str) -> dict[str, Any] | None:
    """What a JSON web token says; None for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        said = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return said if isinstance(said, dict) else None
