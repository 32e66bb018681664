"""What the CVAT tests share: the server they talk to, and images, rows and findings to send."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from curate.checks.findings import Finding
from curate.connectors.base import Connector, Item, NewItem, Note, ProjectSpec, Row
from curate.connectors.registry import connect
from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, shape_columns
from tests.servers.cvat import Cvat

CLASSES = (
    ClassInfo("bolt", color="#ff0000"),
    ClassInfo("nut", color="#00ff00"),
    ClassInfo("person", keypoints=("head", "hip", "foot"), skeleton=((1, 2), (2, 3)), color="#0000ff"),
)
ATTRIBUTES = {"bolt": {"rusty": [True, False], "length": [3, 12.5], "maker": ["acme", "bolts inc"]}}
SIZE = (64, 48)


@dataclass
class Site:
    """A CVAT server.

    Attributes:
        url: Its address.
        token: Lets us in.
        stand_in: None where the server is real.
        markers: Of the projects that the test has made.
    """

    url: str
    token: str
    stand_in: Cvat | None
    markers: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where a project is made."""
        parts = urlsplit(self.url)
        return f"cvat+{parts.scheme}://{parts.netloc}"

    def connector(self, path: str = "") -> Connector:
        """A connector; it waits no longer than it must."""
        found = connect(f"{self.address}/{path}" if path else self.address)
        server = found._server  # type: ignore[attr-defined]
        if self.stand_in is not None:
            server.http._pause = server._poll = 0.001
        return found

    def client(self) -> Any:
        """The SDK, as somebody else uses it."""
        from cvat_sdk.core.client import AccessTokenCredentials, Client, Config

        config = Config(status_check_period=0.01 if self.stand_in is not None else 0.5)
        client = Client(self.url, config=config, check_server_version=False)
        client.login(AccessTokenCredentials(self.token))
        return client

    def spec(self, **changes: Any) -> ProjectSpec:
        """A project that no other test has."""
        self.markers.append(f"curate:{uuid.uuid4().hex[:10]}")
        types = frozenset({"box", "keypoints"})
        given = {
            "marker": self.markers[-1],
            "title": "parts",
            "classes": CLASSES,
            "types": types,
            "attributes": ATTRIBUTES,
        }
        return ProjectSpec(**{**given, **changes})

    def made(self) -> Connector:
        """A connector with a project of its own."""
        connector = self.connector()
        connector.ensure_project(self.spec(), LossReport())
        return connector

    def clear(self) -> None:
        """Remove what the test has made."""
        for project in self.client().projects.list():
            if any(marker in project.name for marker in self.markers):
                project.remove()


def row(label: str | None, shape: Shape, **columns: Any) -> Row:
    """An annotation as a dataset has it."""
    filled = {
        name: (values if isinstance(values, list) else values.to_pylist())[0]
        for name, values in shape_columns([shape]).items()
    }
    return {**dict.fromkeys(ANNOTATIONS.names), "attributes": {}, **filled, "label": label, **columns}


def box(label: str = "bolt", x: float = 4.0, **columns: Any) -> Row:
    """A box of 10 x 8 pixels."""
    return row(label, Shape(bbox=[x, 6.5, 10.0, 8.0]), **columns)


def new_item(folder: Path, location: str, rows: Sequence[Row] = (), **given: Any) -> NewItem:
    """An image of its own color, with its file."""
    image_id = image_ids([location])[0].as_py()
    path = folder / f"{image_id}.png"
    shade = int(image_id[:2], 16)
    Image.new("RGB", SIZE, (shade, 255 - shade, 90)).save(path)
    return NewItem(image_id, location, path, SIZE, "hash", rows=rows, **given)


def note(item: NewItem, bbox: Sequence[float] | None = None, kind: Any = "mislabeled") -> Note:
    """A finding on an image."""
    finding = Finding(kind, 0.9, item.location, item.image_id, "mistakes", bbox=bbox, given="bolt", suggested="nut")
    return Note(finding, "mislabeled: bolt, probably nut (90%)")


def listed(
    connector: Connector, unless: Mapping[str, str] | None = None, losses: LossReport | None = None
) -> list[Item]:
    """All items."""
    return list(connector.items(unless=unless or {}, losses=losses or LossReport()))


def contents(item: Item) -> list[tuple[str, str | None, Any]]:
    """What an item's annotations are: layer, label and box."""
    return [(each.layer, each.row["label"], each.row["bbox"]) for each in item.annotations or ()]
