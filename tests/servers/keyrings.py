"""Keyrings for tests, in place of the system's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


@dataclass
class MemoryKeyring(KeyringBackend):  # type: ignore[misc]
    """A keyring that lasts as long as the object.

    Attributes:
        kept: Passwords by service and user.
    """

    priority = 1
    kept: dict[tuple[str, str], str] = field(default_factory=dict)

    def get_password(self, service: str, username: str) -> str | None:
        """The password, if there is one."""
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a password."""
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Forget a password."""
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("no such password")


@contextmanager
def in_use(backend: KeyringBackend) -> Iterator[None]:
    """The system's keyring is another one until the block ends."""
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield
    finally:
        keyring.set_keyring(before)
