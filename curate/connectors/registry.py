"""The services that curate connects to."""

from __future__ import annotations

from typing import Final

from curate.connectors.addresses import parse_address
from curate.connectors.base import Connector, ConnectorSpec
from curate.registry import Registry

CONNECTORS: Final[Registry[ConnectorSpec]] = Registry(
    "connector",
    {
        "cvat": "curate.connectors.cvat:CONNECTOR",
        "labelstudio": "curate.connectors.label_studio:CONNECTOR",
        "roboflow": "curate.connectors.roboflow:CONNECTOR",
    },
)


def connect(text: str) -> Connector:
    """The connector for an address; nothing is asked of the server yet.

    Raises:
        UsageError: It is no address, or of no service that is known.
        MissingExtra: The service's package is not installed.
        UnavailableError: There is no token.
    """
    address = parse_address(text)
    return CONNECTORS.get(address.service).connect(address)
