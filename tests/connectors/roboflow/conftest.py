"""The stand-in, connectors to it, and things to send."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curate.checks.findings import Finding
from curate.connectors.addresses import parse_address
from curate.connectors.base import Item, NewItem, Note, Row
from curate.connectors.roboflow.connector import Roboflow
from curate.dataset.schema import ANNOTATIONS
from curate.formats.losses import LossReport
from tests.servers.roboflow import KEY, Service, running

Connect = Callable[..., Roboflow]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CURATE_ROBOFLOW_LABELER", "CURATE_ROBOFLOW_REVIEWER", "APP_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The stand-in, empty."""
    with running() as service:
        monkeypatch.setenv("API_URL", service.base)
        yield service


@pytest.fixture
def connect(service: Service) -> Connect:
    """Makes a connector that does not wait between tries."""

    def make(address: str = "roboflow://acme/parts", *, token: str = KEY) -> Roboflow:
        return Roboflow(parse_address(address), base=service.base, token=token, pause=0.001)

    return make


def jpeg(color: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A small image; another color gives other bytes, also where it looks alike."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (color % 256, color // 256, 99)).save(buffer, "JPEG", comment=str(color))
    return buffer.getvalue()


def box_row(annotation_id: str, label: str, box: list[float], **values: Any) -> Row:
    """A row with a box."""
    row: Row = dict.fromkeys(ANNOTATIONS.names)
    return row | {
        "annotation_id": annotation_id, "layer": "ground_truth", "type": "box", "label": label, "bbox": box, "attributes": {},
    } | values  # fmt: skip


def new_item(folder: Path, number: int, rows: list[Row], **values: Any) -> NewItem:
    """An image to be put there; its id has digits only, as some have."""
    path = folder / f"{number}.jpg"
    path.write_bytes(jpeg(number))
    return NewItem(
        image_id=f"{number:016d}",
        location=f"line/{number}.jpg",
        path=path,
        size=(64, 48),
        content_hash=f"{number:032d}",
        rows=rows,
        **values,
    )


def note(item_id: str, kind: Any = "mislabeled", annotation_id: str | None = None) -> Note:
    """A finding on an image."""
    finding = Finding(kind, 0.9, "line/1.jpg", item_id, "mistakes", annotation_id=annotation_id)
    return Note(finding, f"probably {kind}: look at it")


def listing(connector: Roboflow, unless: Mapping[str, str] | None = None) -> dict[str, Item]:
    """All items by location."""
    losses = LossReport()
    return {item.location: item for item in connector.items(unless=unless or {}, losses=losses)}


def shown(item: Item) -> list[tuple[str | None, str, list[float]]]:
    """Id, label and box of each annotation."""
    return [
        (each.annotation_id, each.row["label"], [round(side, 4) for side in each.row["bbox"]])
        for each in item.annotations or ()
    ]
