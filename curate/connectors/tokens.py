"""Tokens: from the environment, else from the system's keyring; never from a file, an address or the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from curate.connectors.addresses import Address
from curate.errors import MissingExtra, UnavailableError, UsageError
from curate.redaction import hide

T = TypeVar("T")

_KEYRING: Final = "curate"
_TOKEN: Final = re.compile(r"[!-~]+")


def token_for(address: Address, variable: str) -> str:
    """The token for a server; `curate.redaction.redact` knows it from then on.

    Args:
        address: A project on it.
        variable: The environment variable that goes before the keyring.

    Raises:
        UnavailableError: There is none.
        UsageError: It cannot be one.
    """
    given = os.environ.get(variable, "").strip()
    found = given or _from_keyring(account(address))
    if not found:
        raise UnavailableError(
            "no token for this server", where=address, remedy=f"set {variable}, or run 'curate login {address}'"
        )
    return checked_token(found, variable if given else f"the keyring's for {account(address)}")


def checked_token(token: str, where: str) -> str:
    """A token that can go into a request, where others would end up in an error's text; it is remembered as a secret.

    Args:
        token: As somebody gave it.
        where: Where it comes from.

    Raises:
        UsageError: It has spaces, line breaks or characters beyond ASCII, which no token has.
    """
    hide(token)
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "the token has characters in it that no token has",
            where=where,
            remedy="copy it again: one line, without spaces",
        )
    return token


def account(address: Address) -> str:
    """Under what name the keyring keeps a server's token."""
    return f"{address.service}://{address.host}"


def store_token(address: Address, token: str) -> None:
    """Keep a token in the system's keyring.

    Raises:
        MissingExtra: keyring is not installed.
        UnavailableError: The system has no keyring that can be used, or it forgets the token at once.
    """
    name = account(address)

    def store(keyring: Any) -> bool:
        keyring.set_password(_KEYRING, name, hide(token))
        return bool(keyring.get_password(_KEYRING, name) == token)

    if not _with_keyring(store):
        raise _unusable("it does not keep what it is given")


def forget_token(address: Address) -> bool:
    """Take a server's token out of the keyring; whether there was one.

    Raises:
        MissingExtra: keyring is not installed.
        UnavailableError: The system has no keyring that can be used.
    """
    name = account(address)

    def forget(keyring: Any) -> bool:
        if keyring.get_password(_KEYRING, name) is None:
            return False
        keyring.delete_password(_KEYRING, name)
        return True

    return _with_keyring(forget)


def _from_keyring(name: str) -> str:
    """A token out of the keyring; none, if that cannot be used: the caller says what to do."""
    try:
        return _with_keyring(lambda keyring: keyring.get_password(_KEYRING, name)) or ""
    except UnavailableError:
        return ""


def _with_keyring(action: Callable[[Any], T]) -> T:
    """What an action on the system's keyring gives."""
    try:
        import keyring
    except ImportError:
        raise MissingExtra("keyring", "login") from None
    try:
        return action(keyring)
    except Exception as error:  # whatever the system's own program for it raises
        raise _unusable(type(error).__name__) from None


def _unusable(why: str) -> UnavailableError:
    return UnavailableError(
        f"the system's keyring cannot be used: {why}", remedy="set the token in the environment instead"
    )
