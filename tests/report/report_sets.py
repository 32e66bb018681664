"""Small datasets with findings of every kind, made by hand, for tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from curate.augment.prove.effects import Effect
from curate.augment.prove.store import Proof, store_proof
from curate.augment.stress.cells import Cell
from curate.augment.stress.curves import Point
from curate.augment.stress.store import Header, store_points
from curate.checks.evaluation.confusion import NOTHING
from curate.checks.evaluation.store import store_evaluations
from curate.checks.findings import Finding, Related, to_table
from curate.checks.shift.stored import Kind, Slice, store_slices
from curate.dataset import begin
from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES, embeddings_schema
from curate.geometry import encode_rle

WIDTH, HEIGHT = 160, 120
PLAIN_NAMES: Final = ("train/a.png", "train/b.png", "val/c.png", "val/d.png", "train/e.png", "val/f.png")
PLAIN_CLASSES: Final = ("bolt", "nut")
ODD_NAMES: Final = (
    "train/\"'><img src=x onerror=alert(1)>.png",
    "train/<script>alert(1)<.png",
    f"val/{'long' * 40}/{'name' * 40}.png",
    "val/🔩🪛 parts.png",
    "train/صورة 12 مسمار.png",
    "val/\u202egnp.evil & $& {{data}} `${x}`.png",
)
ODD_CLASSES: Final = ("</script><script>document.title='taken'</script>", "'\"<b>מסמר</b>&amp;")


def make_set(
    name: str,
    folder: Path,
    *,
    names: Sequence[str] = PLAIN_NAMES,
    classes: Sequence[str] = PLAIN_CLASSES,
    copies: int = 1,
) -> list[Finding]:
    """Make a dataset of six images, one object on each, and findings of every kind.

    Args:
        name: Of the dataset.
        folder: For the pictures.
        names: Locations of the six.
        classes: Names of the two.
        copies: How often the findings on single objects are repeated, each time on another object of its image.

    Returns:
        The findings.
    """
    ids = image_ids(names).to_pylist()
    rows, annotations = [], []
    for number, (location, image_id) in enumerate(zip(names, ids, strict=True)):
        path = folder / f"{number}.png"
        _draw(path, number)
        split = location.partition("/")[0]
        rows.append(
            {
                "image_id": image_id,
                "location": location,
                "path": str(path),
                "width": WIDTH,
                "height": HEIGHT,
                "split": split,
            }
        )
        annotations += [_annotation(number, copy, image_id, classes) for copy in range(copies)]
    found = _findings(names, ids, classes, copies)
    with begin(name, command=f"curate import '{names[0]}'", create=True) as transaction:
        transaction.classes[:] = [{"name": each} for each in classes]
        transaction.append("images", [pa.Table.from_pylist(rows, schema=IMAGES)])
        transaction.append("annotations", [pa.Table.from_pylist(annotations, schema=ANNOTATIONS)])
        transaction.append("findings", [to_table([replace(each, commit=1) for each in found])])
        vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float16)
        space = {"id": ids, "fingerprint": ids, "vector": vectors.tolist()}
        schema = embeddings_schema(8)
        transaction.append("embeddings/test-images", [pa.table(space, schema=schema)], schema)
        store_slices(transaction, _slices(ids, classes))
        transaction.count("images added", len(ids))
    return found


def evaluate_set(name: str, classes: Sequence[str] = PLAIN_CLASSES) -> None:
    """Keep an evaluation of a model that misses the first class, makes the second up, and takes one for the other."""
    confused = [(*classes, 5, 0.5), (classes[0], NOTHING, 3, 0.3), (NOTHING, classes[1], 1, None)]
    keys = ("true", "predicted", "objects", "share_of_true")
    row = {
        "layer": "predictions/model",
        "labels": "ground_truth",
        "task": "detect",
        "where": None,
        "images": 6,
        "metrics": {"AP": 0.25},
        "classes": {},
        "slices": {},
        "confusion": [dict(zip(keys, each, strict=True)) for each in confused],
    }
    with begin(name, command="curate evaluate") as transaction:
        store_evaluations(transaction, [(transaction.base, row)])


def prove_and_stress_set(name: str, classes: Sequence[str] = PLAIN_CLASSES) -> None:
    """Keep a proof of a gain for the first class, and curves of a model that one corruption breaks and another does not."""
    gained = Effect("target", 6, 6, 0.25, 0.5, 0.25, 0.1, 0.4, "gain", (0.25,))
    same = Effect("elsewhere", 6, 6, 0.5, 0.49, -0.01, -0.1, 0.1, "no gain", (-0.01,))
    proof = Proof(name, 1, classes[0], "detect", "AP50", 30, 1, 6, 3, "by split", (gained, same), (("a", "b"),))
    header = Header("run", 1, f"run:{classes[1]}", "detect", "AP50", "ground_truth", 6, "6 labelled images of val")
    points = {Cell("clean", 0.0, "-"): Point(0.0, 0.8, 0.7, 0.9)}
    for severity in (0.5, 1.0):
        points[Cell("motion", severity, "-")] = Point(
            severity, 0.8 - 0.6 * severity, 0.1, 0.6, 0.6 * severity, 0.2, 0.7
        )
        points[Cell("warm", severity, "-")] = Point(severity, 0.79, 0.7, 0.9, 0.01, -0.1, 0.1)
    with begin(name, command="curate stress") as transaction:
        store_proof(transaction, "0" * 16, proof)
        store_points(transaction, header, points)


def _slices(ids: Sequence[str], classes: Sequence[str]) -> list[Slice]:
    def part(name: str, kind: Kind, chosen: Sequence[str], **more: Any) -> Slice:
        return Slice(name, kind, pa.array(sorted(chosen), pa.string()), **more)

    measured = ({"axis": "brightness", "median": 21.0, "rest": 48.5, "effect": -0.9},)
    dark = f"dark, {classes[1]}"
    return [
        part(dark, "light", ids[:4], fails=True, error=0.4, rest=0.1, p_value=0.001, measured=measured),
        part("bright", "light", ids[4:], error=0.1, rest=0.4, p_value=1.0, classes=f"{classes[0]} 60% (40%)"),
        part("plain", "content", ids[:2]),
        part("rich", "content", ids[2:5]),
        part("dark (brightness <= 21)", "axis", ids[:1]),
    ]


def _draw(path: Path, number: int) -> None:
    picture = Image.new("RGB", (WIDTH, HEIGHT), (40 + 30 * number, 90, 200 - 30 * number))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((40, 30, 79, 69), fill=(230, 230, 210))
    pen.text((5, 5), str(number), fill="white")
    picture.save(path)


def _annotation(number: int, copy: int, image_id: str, classes: Sequence[str]) -> dict[str, object]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[30:70, 40:80] = 1
    shapes: dict[int, dict[str, object]] = {
        0: {"type": "box"},
        1: {"type": "mask", "rle": encode_rle(mask), "rle_size": [HEIGHT, WIDTH]},
        2: {"type": "polygon", "polygons": [[40.0, 30.0, 80.0, 30.0, 60.0, 70.0]]},
        3: {"type": "rotated_box", "rotated_box": [60.0, 50.0, 40.0, 40.0, 30.0]},
        4: {"type": "keypoints", "keypoints": [60.0, 50.0, 2.0, 50.0, 40.0, 0.0]},
        5: {"type": "polyline", "polygons": [[40.0, 30.0, 80.0, 70.0, 60.0, 70.0]]},
    }
    return {
        "annotation_id": annotation_id(number, copy),
        "image_id": image_id,
        "layer": "ground_truth",
        "label": classes[number % 2],
        "bbox": [40.0, 30.0, 40.0, 40.0],
        **shapes[number],
    }


def annotation_id(number: int, copy: int = 0) -> str:
    """Id of an object on an image."""
    return f"{copy:012x}{number + 0xA0:04x}"


def _findings(names: Sequence[str], ids: Sequence[str], classes: Sequence[str], copies: int) -> list[Finding]:
    make = _Maker(names, ids, classes)
    return [*_swapped(make, copies), *_of_shapes(make), *_of_images(make), *_decided(make)]


@dataclass(frozen=True)
class _Maker:
    """Makes findings on the images by their numbers."""

    names: Sequence[str]
    ids: Sequence[str]
    classes: Sequence[str]

    def on(self, number: int, kind: str, score: float, check: str = "mistakes", **more: Any) -> Finding:
        """A finding on an image."""
        about: dict[str, Any] = {"image": self.names[number], "image_id": self.ids[number], **more}
        return Finding(kind=kind, score=score, check=check, **about)  # type: ignore[arg-type]

    def boxed(self, number: int, kind: str, score: float, copy: int = 0, **more: Any) -> Finding:
        """A finding on an image's object, or on a copy of that."""
        box, given = (40.0, 30.0, 40.0, 40.0), self.classes[number % 2]
        return self.on(number, kind, score, annotation_id=annotation_id(number, copy), bbox=box, given=given, **more)

    def related(self, number: int, score: float | None, annotation: str | None = None) -> tuple[Related, ...]:
        """Another image, or an object on it, that a finding is about."""
        return (Related(self.names[number], self.ids[number], annotation, score),)


def _swapped(make: _Maker, copies: int) -> list[Finding]:
    """Labels of the first class that should be the second, with objects that look like them."""
    other = make.classes[1]
    near = [
        {"image": make.names[k], "annotation_id": annotation_id(k), "label": other, "similarity": 0.8} for k in (1, 3)
    ]
    evidence = {"why": f"looks like '{other}'", "p_wrong": 0.99, "disagreeing": near, "agreeing": []}
    scores = [0.99 - 0.9 * copy / max(copies, 2) for copy in range(copies)]
    return [
        make.boxed(0, "mislabeled", score, copy, suggested=other, evidence=evidence)
        for copy, score in enumerate(scores)
    ]


def _of_shapes(make: _Maker) -> list[Finding]:
    """Findings on objects as they are drawn."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[40:50, 50:60] = 1
    region = {"bbox": [50.0, 40.0, 10.0, 10.0], "rle": encode_rle(mask), "size": [HEIGHT, WIDTH]}
    better = {"why": "the box is too large", "suggested_bbox": [45.0, 35.0, 30.0, 30.0]}
    nothing = {"why": "nothing is there"}
    return [
        make.boxed(1, "bad_mask", 0.7, evidence={"why": "the mask has holes", "region": region}),
        make.boxed(2, "mislocated", 0.6, evidence=better),
        make.boxed(3, "spurious", 0.55, related=make.related(3, None, annotation_id(3)), evidence={"why": "twice"}),
        make.on(4, "missing", 0.8, bbox=(100.0, 60.0, 30.0, 30.0), suggested=make.classes[0], evidence=nothing),
    ]


def _of_images(make: _Maker) -> list[Finding]:
    """Findings on whole images, to be decided on."""
    hard = {"why": "misses 1", "missed": [{"bbox": [1.0, 1.0, 9.0, 9.0]}], "false": []}
    copy = {"why": f"the same bytes as {make.names[0]}", "group": 1, "keeper": make.names[0]}
    leak = {"why": f"in val, but the same file as {make.names[0]} in train", "splits": {"train": 1}}
    shifted = {
        "why": "the model errs more on dark images",
        "slice": f"dark, {make.classes[1]}",
        "found_by": "light",
        "error": 0.4,
        "error_rest": 0.1,
        "p_value": 0.001,
    }
    splits = {"given": "val", "suggested": "train"}
    return [
        make.on(5, "hard", 0.5, "evaluate", evidence=hard),
        make.on(1, "exact_duplicate", 1.0, "duplicates", related=make.related(0, 1.0), evidence=copy),
        make.on(2, "leak", 0.95, "leaks", related=make.related(0, 0.95), evidence=leak, **splits),
        make.on(3, "shifted", 0.3, "shift", evidence=shifted),
    ]


def _decided(make: _Maker) -> list[Finding]:
    """Findings that somebody has decided on."""
    fixed = make.boxed(5, "mislabeled", 0.85, suggested=make.classes[0], evidence={"why": "was wrong"})
    return [
        make.on(4, "dark", 0.9, "quality", status="confirmed", evidence={"why": "dark"}),
        replace(fixed, status="fixed"),
        make.on(0, "blurry", 0.4, "quality", status="rejected", evidence={"why": "not sharp"}),
    ]
