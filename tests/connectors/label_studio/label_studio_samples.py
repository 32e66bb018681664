"""Rows, images and projects that the tests of the Label Studio connector share, and what they ask of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.connectors.base import Item, NewItem, ProjectSpec, Row
from curate.connectors.label_studio.connector import LabelStudio
from curate.dataset.schema import ANNOTATIONS
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, shape_columns
from curate.geometry import encode_rle
from tests.servers import label_studio as servers

SIZE = (64, 48)
CLASSES = [ClassInfo("car", color="#ff0000"), ClassInfo("dog"), ClassInfo("person", keypoints=("nose", "eye", "ear"))]
TYPES = frozenset({"box", "rotated_box", "polygon", "mask", "keypoints", "polyline", "label"})
MADE_THERE = {"annotation_id", "image_id", "source", "source_id"}
"""Columns that the connector leaves to its caller."""


def spec(marker: str, **changes: Any) -> ProjectSpec:
    given: dict[str, Any] = {
        "marker": marker,
        "title": "parts",
        "classes": CLASSES,
        "types": TYPES,
        "attributes": {"car": {"occluded": [False, True], "wheels": [3, 4], "make": ["a", "b"]}},
    }
    return ProjectSpec(**given | changes)


def row(number: int, shape: Shape, label: str | None, **changes: Any) -> Row:
    """A row as a dataset has it; its id follows from its number."""
    geometry = pa.table(
        {name: pa.array(each, ANNOTATIONS.field(name).type) for name, each in shape_columns([shape]).items()}
    )
    made: Row = dict.fromkeys(ANNOTATIONS.names)
    made |= {"annotation_id": f"{number:016x}", "layer": "ground_truth", "label": label, "attributes": {}}
    made |= geometry.to_pylist()[0]
    made |= {"source_id": "from elsewhere"} | changes
    return made


def mask() -> tuple[str, list[int]]:
    painted = np.zeros((SIZE[1], SIZE[0]), dtype=np.bool_)
    painted[10:20, 5:30] = True
    painted[12:14, 10:12] = False
    return encode_rle(painted), [SIZE[1], SIZE[0]]


def every_kind(start: int, layer: str = "ground_truth") -> list[Row]:
    """A row of each kind that Label Studio holds, with the kinds of attributes that it has to carry."""
    score = None if layer == "ground_truth" else 0.25
    attributes = {"occluded": True, "wheels": 4, "make": "b", "odd": [1, {"a": None}], "make_year": 1999}
    triangle = [1.0, 1.0, 10.5, 1.0, 10.0, 10.25]
    shapes: list[tuple[Shape, str | None, dict[str, Any]]] = [
        (Shape(bbox=[1.5, 2.25, 10.0, 12.125]), "car", {"attributes": attributes}),
        (Shape(bbox=[1.5, 2.25, 9.0, 1 / 3]), None, {}),
        (Shape(rotated_box=[30.0, 20.0, 10.0, 6.0, 33.0]), "dog", {}),
        (Shape(polygons=[triangle]), "car", {"iscrowd": True}),
        (Shape(polygons=[triangle, [20.0, 20.0, 30.0, 20.0, 30.0, 30.0]]), "dog", {}),
        (Shape(rle=mask()), "dog", {}),
        (Shape(bbox=[3.0, 4.0, 20.0, 30.0], keypoints=[5.0, 6.0, 2.0, 0.0, 0.0, 0.0, 15.0, 20.0, 1.0]), "person", {}),
        (Shape(polygons=[triangle], keypoints=[5.0, 6.0, 2.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0]), "person", {}),
        (Shape(keypoints=[7.0, 8.0, 2.0]), "nose", {}),
        (Shape(polygons=[[1.0, 2.0, 30.0, 20.0, 40.0, 5.0]], is_open=True), "dog", {}),
        (Shape(), "car", {}),
        (Shape(), "dog", {}),
    ]
    return [
        row(start + place, shape, label, layer=layer, score=score, **said)
        for place, (shape, label, said) in enumerate(shapes)
    ]


def new_item(number: int, folder: Path, rows: Sequence[Row] = (), **changes: Any) -> NewItem:
    path = folder / f"{number}.png"
    if not path.exists():
        pixels = np.random.default_rng(number).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    given: dict[str, Any] = {
        "image_id": f"{number + 1:016x}",
        "location": f"a folder/{number}.png",
        "path": path,
        "size": SIZE,
        "content_hash": f"{number + 1:064x}",
        "rows": rows,
    }
    return NewItem(**given | changes)


def differences(item: Item, rows: Sequence[Row]) -> list[tuple[str, str, Any, Any]]:
    """Columns in which an item's annotations are not the rows that were sent, to a billionth of a pixel."""
    back = {each.annotation_id: each.row for each in item.annotations or ()}
    missing = [(each["annotation_id"], "", each["type"], None) for each in rows if each["annotation_id"] not in back]
    found = [
        (each["annotation_id"], name, each[name], back[each["annotation_id"]][name])
        for each in rows
        if each["annotation_id"] in back
        for name in ANNOTATIONS.names
        if name not in MADE_THERE and not near(each[name], back[each["annotation_id"]][name])
    ]
    return missing + found


def near(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, int | float):
        return abs(first - second) < 1e-9
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(near, first, second))
    return bool(first == second)


def address(server: servers.LabelStudio, path: str = "") -> str:
    return f"labelstudio://{server.url.removeprefix('http://')}{path}"


def read(connector: LabelStudio, unless: Mapping[str, str] | None = None) -> list[Item]:
    return list(connector.items(unless=unless or {}, losses=LossReport()))


def versions(items: Sequence[Item]) -> dict[str, str]:
    return {item.remote_id: item.version for item in items}


def pushed(connector: LabelStudio, *items: NewItem) -> dict[str, Item]:
    losses = LossReport()
    connector.create(items, losses=losses)
    assert losses.losses == []
    return {item.image_id or "": item for item in read(connector)}


def result_of(server: servers.LabelStudio, annotation: int) -> list[Any]:
    return list(server.request("GET", f"/api/annotations/{annotation}/")["result"])


def annotation_of(item: Item) -> int:
    return int(
        next(each.remote_id for each in item.annotations or () if each.layer == "ground_truth").partition(":")[0]
    )


def remote_ids(item: Item) -> dict[str, str]:
    return {each.annotation_id or "": each.remote_id for each in item.annotations or () if each.layer == "ground_truth"}
