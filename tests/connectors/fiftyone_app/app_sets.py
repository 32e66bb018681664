"""A small dataset with every kind of annotation, findings of several kinds, and names that nobody should use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.checks.findings import Finding, Related, to_table
from curate.checks.shift.stored import Slice, store_slices
from curate.connectors.sync.content import table_of
from curate.dataset import begin
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES, embeddings_schema
from curate.geometry import encode_rle

NAME = "parts"
SIZE = (200, 100)
ODD = 'a "quoted" <script>alert(1)</script> 😀 שלום ' + "x" * 300
"""A class, tag and attribute that an App must show as text."""

LOCATIONS = ("train/a.jpg", "train/b.jpg", 'val/it\'s "q" <b> 😀 שלום.jpg', "val/d.jpg")


def image_id(place: int) -> str:
    """The id of an image."""
    return str(image_ids([LOCATIONS[place]])[0].as_py())


def annotation_id(number: int) -> str:
    """The id of an annotation."""
    return f"{number:016x}"


def row(number: int, place: int, type_: str, label: str | None, **columns: Any) -> dict[str, Any]:
    """An annotation."""
    empty = dict.fromkeys(
        ("bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints", "area", "iscrowd", "score", "probabilities")
    )
    return {
        **empty,
        "annotation_id": annotation_id(number),
        "image_id": image_id(place),
        "layer": "ground_truth",
        "type": type_,
        "label": label,
        "attributes": {},
        "source_id": str(number),
        "source": "labels.json",
        **columns,
    }


def rows() -> list[dict[str, Any]]:
    """One annotation of every kind, two of them on the second image."""
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[20:40, 30:60] = True
    mask[25:30, 35:45] = False
    odd = {"attributes": {"occluded": True, "weight.kg": 2.5, "label": "x", ODD[:40]: ODD}}
    return [
        row(1, 0, "box", "bolt", bbox=[10.0, 20.0, 30.0, 40.0], **odd),
        row(2, 0, "mask", "nut", bbox=[30, 20, 30, 20], rle=encode_rle(mask), rle_size=[SIZE[1], SIZE[0]], area=550.0),
        row(3, 1, "polygon", ODD, bbox=[5, 5, 20, 20], polygons=[[5, 5, 25, 5, 25, 25], [30, 30, 40, 30, 35, 40]]),
        row(4, 1, "rotated_box", "bolt", bbox=[60, 30, 40, 40], rotated_box=[80, 50, 40, 20, 30.0]),
        row(5, 2, "keypoints", "person", bbox=[1, 1, 50, 50], keypoints=[10, 10, 2, 0, 0, 0, 20, 30, 1]),
        row(6, 2, "polyline", "edge", bbox=[0, 0, 50, 50], polygons=[[0, 0, 50, 50]]),
        row(7, 3, "label", "good"),
        row(8, 3, "box", "gear", bbox=[1, 1, 10, 10]),
        row(9, 0, "box", "bolt", layer="predictions/yolo", bbox=[11, 21, 30, 40], score=0.75),
    ]


def findings() -> list[Finding]:
    """On a box, at a place without a box, on whole images, and of copies."""
    return [
        Finding(
            "mislabeled", 0.9, LOCATIONS[0], image_id(0), "mistakes", annotation_id(1), "1", given="bolt",
            suggested="nut", evidence={"why": f"looks like a nut {ODD}"},
        ),
        Finding("missing", 0.8, LOCATIONS[0], image_id(0), "mistakes", bbox=[50, 50, 20, 20], suggested="bolt"),
        Finding("dark", 0.7, LOCATIONS[1], image_id(1), "quality", evidence={"why": "hardly any light"}),
        Finding("mislocated", 0.6, LOCATIONS[3], image_id(3), "mistakes", annotation_id(8)),
        Finding(
            "near_duplicate", 0.95, LOCATIONS[3], image_id(3), "duplicates",
            related=(Related(LOCATIONS[2], image_id(2)),), evidence={"keeper": LOCATIONS[2]},
        ),
        Finding("shifted", 0.4, LOCATIONS[1], image_id(1), "shift", evidence={"why": "warm", "slice": f"warm {ODD}"}),
    ]  # fmt: skip


def slices() -> list[Slice]:
    """One on which a model does worse, with a name as long as they get, and one on which it does not."""
    warm, cold = ([image_id(1)], sorted([image_id(2), image_id(3)]))
    return [
        Slice(f"warm {ODD}", "light", pa.array(warm), fails=True, error=0.5, rest=0.1, p_value=0.001),
        Slice("cold (tint <= -0.1)", "axis", pa.array(cold), error=0.1, rest=0.1, p_value=1.0),
    ]


def make(folder: Path, *, name: str = NAME) -> None:
    """The dataset, in one commit."""
    images = []
    for place, location in enumerate(LOCATIONS):
        path = folder / location
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (40 * place, 80, 120)).save(path)
        images.append(
            {
                "image_id": image_id(place),
                "location": location,
                "path": str(path),
                "width": SIZE[0],
                "height": SIZE[1],
                "split": location.partition("/")[0],
                "tags": ["night", ODD] if place == 0 else None,
                "metadata": '{"camera": "c1"}' if place == 1 else None,
                "source_id": str(place),
            }
        )
    ids = [image_id(place) for place in range(len(LOCATIONS))]
    with begin(name, command="make", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(images, schema=IMAGES)])
        transaction.append("annotations", [table_of(rows())])
        transaction.append("findings", [to_table(findings())])
        transaction.append("embeddings/tiny-images", [vectors(ids)], embeddings_schema(4))
        table = pa.table(
            {"id": ids, "x": pa.array([0, 0.5, 1, -1], pa.float32()), "y": pa.array([0.0] * 4, pa.float32())}
        )
        transaction.append("maps/tiny", [table], table.schema)
        store_slices(transaction, slices())
        transaction.classes = [
            {"name": each, "source_id": None, "supercategory": None, "keypoints": [], "skeleton": [], "color": None}
            for each in ("bolt", "nut", ODD)
        ]


def vectors(ids: Sequence[str]) -> pa.Table:
    """Vectors of some images: each nearest to the next."""
    values = [np.array([1, place, place**2, 0.5], np.float16) for place in range(len(ids))]
    columns = {"id": ids, "fingerprint": ids, "vector": values}
    return pa.table(columns, schema=embeddings_schema(4))
