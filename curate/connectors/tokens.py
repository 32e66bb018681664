"""Tokens: from the environment, else from the system's keyring; never from a file, an address or the command line."""

from __future__ import annotations

import os
from typing import Any, Final

from curate.connectors.addresses import Address
from curate.errors import MissingExtra, UnavailableError
from curate.redaction import hide

_KEYRING: Final = "curate"


def token_for(address: Address, variable: str) -> str:
    """The token for a server; `curate.redaction.redact` knows it from then on.

    Args:
        address: A project on it.
        variable: The environment variable that goes before the keyring.

    Raises:
        UnavailableError: There is none.
    """
    found = os.environ.get(variable, "").strip() or _from_keyring(account(address))
    if not found:
        raise UnavailableError(
            "no token for this server", where=address, remedy=f"set {variable}, or run 'curate login {address}'"
        )
    return hide(found)


def account(address: Address) -> str:
    """Under what name the keyring keeps a server's token."""
    return f"{address.service}://{address.host}"


def store_token(address: Address, token: str) -> None:
    """Keep a token in the system's keyring.

    Raises:
        MissingExtra: keyring is not installed.
        UnavailableError: The system has no keyring that can be used.
    """
    keyring = _keyring()
    if keyring is None:
        raise MissingExtra("keyring", "login")
    try:
        keyring.set_password(_KEYRING, account(address), hide(token))
    except keyring.errors.KeyringError as error:
        raise _unusable(error) from None


def forget_token(address: Address) -> bool:
    """Take a server's token out of the keyring; whether there was one.

    Raises:
        MissingExtra: keyring is not installed.
        UnavailableError: The system has no keyring that can be used.
    """
    keyring = _keyring()
    if keyring is None:
        raise MissingExtra("keyring", "login")
    try:
        keyring.delete_password(_KEYRING, account(address))
    except keyring.errors.PasswordDeleteError:
        return False
    except keyring.errors.KeyringError as error:
        raise _unusable(error) from None
    return True


def _from_keyring(name: str) -> str:
    keyring = _keyring()
    if keyring is None:
        return ""
    try:
        return keyring.get_password(_KEYRING, name) or ""
    except keyring.errors.KeyringError:
        return ""  # a locked or missing keyring is no token: the caller says what to do


def _keyring() -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    return keyring


def _unusable(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the system's keyring cannot be used: {type(error).__name__}",
        remedy="set the token in the environment instead",
    )
