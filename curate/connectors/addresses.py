"""Addresses of projects on servers: ``cvat://HOST/projects/3``, ``labelstudio://HOST/projects/7``, ``roboflow://WORKSPACE/PROJECT/VERSION``.

The server is asked over TLS, with its certificate verified. Plain HTTP is used where the host is this machine itself, or
where it is asked for by name: ``cvat+http://host:8080/projects/3``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from curate.errors import UsageError

SCHEMES: Final = ("cvat", "labelstudio", "roboflow")
"""Services that have a connector of curate's own; plugins add to the registry, not to this list."""

_ADDRESS: Final = re.compile(r"([a-z][a-z0-9_]*)(\+https?)?://", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a project is.

    Attributes:
        service: Name of the connector: 'cvat', 'labelstudio', 'roboflow'.
        host: Host and port; for Roboflow the workspace.
        path: What comes after it, without slashes at its ends: 'projects/3'; empty for a new project.
        secure: Whether TLS is used.
    """

    service: str
    host: str
    path: str = ""
    secure: bool = True

    def __str__(self) -> str:
        """The canonical text, which links and commits keep; it never holds a secret."""
        plain = "" if self.secure or is_this_machine(self.host) else "+http"
        text = f"{self.service}{plain}://{self.host}"
        return f"{text}/{self.path}" if self.path else text

    @property
    def url(self) -> str:
        """The server's base address, without a slash at its end."""
        return f"http{'s' if self.secure else ''}://{self.host}"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address rather than as a path."""
    return _ADDRESS.match(text) is not None


def parse_address(text: str) -> Address:
    """Take an address apart.

    Raises:
        UsageError: It is none, or holds a password or token.
    """
    match = _ADDRESS.match(text)
    if match is None:
        raise UsageError("not an address", where=text, remedy="for example labelstudio://host:8080/projects/7")
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:
        raise UsageError(
            "an address holds no user, password or token",
            where=f"{match[1]}://...",
            remedy="set CVAT_TOKEN, LABEL_STUDIO_API_KEY or ROBOFLOW_API_KEY, or run 'curate login'",
        )
    if not parts.netloc:
        raise UsageError("an address without a host", where=text, remedy="for example cvat://app.cvat.ai/projects/3")
    service, _, transport = parts.scheme.partition("+")
    secure = transport != "http" and (transport == "https" or not is_this_machine(parts.netloc))
    host = parts.netloc if service == "roboflow" else parts.netloc.lower()
    return Address(service, host, parts.path.strip("/"), secure)


def is_this_machine(host: str) -> bool:
    """Whether a host, with or without a port, is the one that curate runs on."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
