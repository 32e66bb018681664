"""Planting label errors, and the truth file that says where they are.

The truth file (`truth.json`) is one JSON object:

    version    1
    seed       of the set
    labels     every class
    faults     what was planted; the fields of `Fault`
    pictures   every image file with all that really is on it (no fault): the fields of `pictures.Picture`, whose
               `annotations` have ids shared with the annotation files, boxes, masks, and the part that is to be seen

Kinds are those of findings. A finding is right iff its kind, image and annotation (for `missing`: its box) match a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from curate.demo.pictures import Annotation, BBox, Picture, covered, decode_mask, encode_mask, iou
from curate.demo.render import LABELS, PART_LABELS
from curate.errors import FormatError
from curate.files import write_atomic

TRUTH_FILE: Final = "truth.json"
_VERSION = 1

CONFUSIONS: Final = {
    "bolt": {"nut": 0.55, "gear": 0.15, "washer": 0.15, "bearing": 0.15},
    "nut": {"washer": 0.40, "bolt": 0.25, "gear": 0.20, "bearing": 0.15},
    "washer": {"bearing": 0.50, "nut": 0.40, "gear": 0.07, "bolt": 0.03},
    "gear": {"bearing": 0.45, "nut": 0.35, "washer": 0.17, "bolt": 0.03},
    "bearing": {"washer": 0.55, "gear": 0.27, "nut": 0.15, "bolt": 0.03},
}
"""What a tired person takes a part for, and how often."""

_CONFUSABLE: Final = {"bolt": 0.5, "nut": 1.0, "washer": 1.4, "gear": 0.9, "bearing": 1.3}


@dataclass(frozen=True)
class FaultRates:
    """How much goes wrong. At least one of a kind is planted where its rate is above 0.

    Attributes:
        mislabeled: Wrong class, as a part of the parts' boxes.
        missing: No box, likewise.
        spurious: A box with no part in it, or around a fragment, likewise.
        mislocated: A box whose IoU with the right one is 0.2 to 0.6, likewise.
        impossible: Boxes with no area, outside of the image, or drawn twice; together, likewise.
        exact_duplicate: The same file under another name, as a part of the images.
        near_duplicate: Cropped, brightened or compressed again, in the same split, likewise.
        leak: Such a copy in another split, likewise.
        dark: Far too little light, likewise.
        blurry: Out of focus, likewise.
    """

    mislabeled: float = 0.05
    missing: float = 0.03
    spurious: float = 0.03
    mislocated: float = 0.03
    impossible: float = 0.005
    exact_duplicate: float = 0.015
    near_duplicate: float = 0.02
    leak: float = 0.015
    dark: float = 0.015
    blurry: float = 0.015


DEFAULT: Final = FaultRates()
NONE: Final = FaultRates(**dict.fromkeys(FaultRates.__dataclass_fields__, 0.0))


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        kind: As of findings: mislabeled, missing, spurious, mislocated, exact_duplicate, near_duplicate, leak, dark, blurry.
        image: File below the set's root.
        annotation_id: The wrong annotation in the annotation files; None for a missing one and for whole images.
        object_id: The true thing's id in the truth's `pictures`, None where there is none. The same as annotation_id where
            the annotation was only changed.
        given: The class it is given; None where there is no annotation.
        label: The class it should be given; None where it should not be there.
        bbox: Where the thing really is; for a spurious or impossible box the box itself; None for whole images.
        related_image: The other copy: the original of a duplicate or leak.
        related_annotation_id: The other of two boxes drawn on one thing; either may be called the wrong one.
        detail: How: 'background', 'fragment', 'zero_area', 'outside', 'drawn_twice', 'leak' (a near duplicate that is also a
            leak); else ''.
    """

    kind: str
    image: str
    annotation_id: int | None = None
    object_id: int | None = None
    given: str | None = None
    label: str | None = None
    bbox: BBox | None = None
    related_image: str | None = None
    related_annotation_id: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Truth:
    """What was planted, and what is really there.

    Attributes:
        seed: Of the set.
        faults: In the order of the images.
        pictures: Every image file with what really is on it.
    """

    seed: int
    faults: tuple[Fault, ...]
    pictures: tuple[Picture, ...]

    def of_kind(self, *kinds: str) -> list[Fault]:
        """Faults of some kinds."""
        return [fault for fault in self.faults if fault.kind in kinds]

    def wrong_annotations(self, *kinds: str) -> dict[tuple[str, int], Fault]:
        """Faults by image and annotation id: what a finding is looked up in. Both boxes of a thing drawn twice are keys."""
        found: dict[tuple[str, int], Fault] = {}
        for fault in self.of_kind(*kinds):
            for annotation_id in (fault.annotation_id, fault.related_annotation_id):
                if annotation_id is not None:
                    found[fault.image, annotation_id] = fault
        return found

    def copies(self, *kinds: str) -> set[frozenset[str]]:
        """Pairs of images of which one was made from the other."""
        return {frozenset((f.image, f.related_image)) for f in self.of_kind(*kinds) if f.related_image is not None}

    def bursts(self) -> dict[str, list[str]]:
        """Images by burst: alike, but neither copies nor errors."""
        groups: dict[str, list[str]] = {}
        for picture in self.pictures:
            if picture.group is not None:
                groups.setdefault(picture.group, []).append(picture.file)
        return groups

    def save(self, root: Path) -> None:
        """Write the truth file into a set's root."""
        value = {
            "version": _VERSION,
            "seed": self.seed,
            "labels": list(LABELS),
            "faults": [asdict(fault) for fault in self.faults],
            "pictures": [picture.to_json() for picture in self.pictures],
        }
        write_atomic(root / TRUTH_FILE, json.dumps(value, separators=(",", ":")).encode())


def load_truth(target: Path) -> Truth:
    """Read a set's truth file.

    Args:
        target: The set's root.

    Raises:
        FormatError: There is none, or it cannot be read.
    """
    path = target / TRUTH_FILE
    try:
        value = json.loads(path.read_bytes())
        if value["version"] != _VERSION:
            raise ValueError(f"version {value['version']} is not known")
        faults = tuple(Fault(**{**row, "bbox": row["bbox"] and tuple(row["bbox"])}) for row in value["faults"])
        return Truth(int(value["seed"]), faults, tuple(Picture.from_json(row) for row in value["pictures"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"the truth file cannot be read: {error}", where=path, remedy="render the set again with 'curate demo'"
        ) from error


@dataclass
class _Edits:
    """Changes to the annotations, by image."""

    pictures: Sequence[Picture]
    ids: Iterator[int]
    replaced: dict[int, Annotation | None] = field(default_factory=dict)
    added: dict[str, list[Annotation]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def apply(self) -> list[Picture]:
        return [
            replace(
                picture,
                annotations=(
                    *(a for old in picture.annotations if (a := self.replaced.get(old.id, old)) is not None),
                    *self.added.get(picture.file, ()),
                ),
            )
            for picture in self.pictures
        ]


_Target = tuple[Picture, Annotation]


def plant_faults(
    pictures: Sequence[Picture],
    rates: FaultRates,
    *,
    ids: Iterator[int],
    rng: np.random.Generator,
    spare: Iterable[str] = (),
) -> tuple[list[Picture], list[Fault]]:
    """Plant errors in annotations, at most one per thing, on parts only.

    Args:
        pictures: What really is there.
        rates: How much.
        ids: New annotation ids.
        rng: Decides which.
        spare: Files to leave alone (dark and blurred images, where nobody could tell).

    Returns:
        The pictures as they are annotated, and the faults in the order of the pictures.
    """
    spared = set(spare)
    sound = [picture for picture in pictures if picture.file not in spared]
    targets = [(picture, a) for picture in sound for a in picture.annotations if a.label in PART_LABELS]
    boxes = sum(a.label in PART_LABELS for picture in pictures for a in picture.annotations)
    edits = _Edits(pictures, ids)

    weights = np.array([_CONFUSABLE[annotation.label] for _, annotation in targets])
    order = iter([targets[k] for k in _weighted_order(weights, rng)])
    _plant(_mislabel, _count(rates.mislabeled, boxes), order, edits, rng)
    rest = list(order)
    order = iter([rest[k] for k in rng.permutation(len(rest))])
    _plant(_forget, _count(rates.missing, boxes), order, edits, rng)
    _plant(_mislocate, _count(rates.mislocated, boxes), order, edits, rng)
    impossible = _count(rates.impossible, boxes)
    for number, plant in enumerate((_draw_twice, _flatten, _push_out)):
        _plant(plant, (impossible + 2 - number) // 3, order, edits, rng)
    anywhere = iter([targets[k] for k in rng.permutation(len(targets))])
    _plant(_invent, _count(rates.spurious, boxes), anywhere, edits, rng)

    position = {picture.file: number for number, picture in enumerate(pictures)}
    return edits.apply(), sorted(edits.faults, key=lambda fault: position[fault.image])


def _count(rate: float, total: int) -> int:
    return max(1, round(rate * total)) if rate > 0 and total else 0


def _weighted_order(weights: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator) -> list[int]:
    """All indices in a random order, the heavier earlier (Efraimidis and Spirakis, 2006)."""
    keys = np.log(1 - rng.random(len(weights))) / weights
    return [int(k) for k in np.argsort(-keys)]


_Plant = Callable[[_Target, _Edits, np.random.Generator], bool]
"""Plants one fault at a target; False where it cannot."""


def _plant(plant: _Plant, count: int, targets: Iterator[_Target], edits: _Edits, rng: np.random.Generator) -> None:
    planted = 0
    while planted < count:
        target = next(targets, None)
        if target is None:
            return
        planted += plant(target, edits, rng)


def _mislabel(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    picture, true = target
    confusions = CONFUSIONS[true.label]
    given = str(rng.choice(list(confusions), p=list(confusions.values())))
    edits.replaced[true.id] = replace(true, label=given)
    edits.faults.append(Fault("mislabeled", picture.file, true.id, true.id, given, true.label, true.bbox))
    return True


def _forget(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    picture, true = target
    edits.replaced[true.id] = None
    edits.faults.append(Fault("missing", picture.file, None, true.id, None, true.label, true.bbox))
    return True


def _mislocate(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    picture, true = target
    others = [other.bbox for other in picture.annotations if other.id != true.id and other.label in PART_LABELS]
    x, y, w, h = true.bbox
    for _ in range(60):
        scale_x, scale_y = np.exp(rng.normal(0, 0.30, 2))
        dx, dy = rng.normal(0, 0.30, 2)
        box = _in_image((x + w / 2 + dx * w, y + h / 2 + dy * h), (w * scale_x, h * scale_y), picture)
        if 0.2 <= iou(box, [true.bbox])[0] <= 0.6 and (iou(box, others) < 0.25).all():
            moved = _with_mask(replace(true, bbox=box), picture, true)
            edits.replaced[true.id] = moved
            edits.faults.append(Fault("mislocated", picture.file, true.id, true.id, true.label, true.label, true.bbox))
            return True
    return False


def _draw_twice(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    picture, true = target
    again = replace(true, id=next(edits.ids))
    edits.added.setdefault(picture.file, []).append(again)
    edits.faults.append(
        Fault(
            "spurious", picture.file, again.id, true.id, true.label, None, true.bbox,
            related_annotation_id=true.id, detail="drawn_twice",
        )
    )  # fmt: skip
    return True


def _flatten(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    x, y, w, h = target[1].bbox
    flat = (x, y + h / 2, w, 0.0) if rng.random() < 0.5 else (x + w / 2, y, 0.0, h)
    return _add_impossible(target, flat, "zero_area", edits)


def _push_out(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    picture, true = target
    _, _, w, h = true.bbox
    x, y = picture.width + float(rng.integers(5, 60)), float(rng.integers(0, picture.height - 10))
    return _add_impossible(target, (x, y, w, h), "outside", edits)


def _add_impossible(target: _Target, box: BBox, detail: str, edits: _Edits) -> bool:
    picture, true = target
    stray = Annotation(next(edits.ids), true.label, box, None, box[2] * box[3])
    edits.added.setdefault(picture.file, []).append(stray)
    edits.faults.append(Fault("mislocated", picture.file, stray.id, None, stray.label, None, box, detail=detail))
    return True


def _invent(target: _Target, edits: _Edits, rng: np.random.Generator) -> bool:
    """A box on nothing, as large as some part of the image; or (one in three) around a fragment of that part."""
    picture, model = target
    parts = [a.bbox for a in picture.annotations if a.label in PART_LABELS]
    label = str(rng.choice(PART_LABELS))
    fragment = rng.random() < 1 / 3
    for _ in range(40):
        x, y, w, h = model.bbox
        if fragment:
            size = (w * rng.uniform(0.3, 0.5), h * rng.uniform(0.3, 0.5))
            centre = (x + rng.uniform(size[0] / 2, w - size[0] / 2), y + rng.uniform(size[1] / 2, h - size[1] / 2))
        else:
            size = (w * rng.uniform(0.8, 1.2), h * rng.uniform(0.8, 1.2))
            centre = (rng.uniform(0, picture.width), rng.uniform(0, picture.height))
        box = _in_image(centre, size, picture)
        if fragment:
            fits = min(box[2:]) >= 8 and int((covered(box, parts) > 0.2).sum()) == 1
        else:
            fits = min(box[2:]) >= 16 and bool((covered(box, parts) < 0.10).all() and (iou(box, parts) < 0.10).all())
        if fits:
            stray = _with_mask(Annotation(next(edits.ids), label, box, None, 0.0), picture, model)
            edits.added.setdefault(picture.file, []).append(stray)
            detail = "fragment" if fragment else "background"
            edits.faults.append(Fault("spurious", picture.file, stray.id, None, label, None, box, detail=detail))
            return True
    return False


def _in_image(centre: tuple[float, float], size: tuple[float, float], picture: Picture) -> BBox:
    """A box of whole pixels, clipped to the image."""
    left, right = (round(float(np.clip(centre[0] + s * size[0] / 2, 0, picture.width))) for s in (-1, 1))
    top, bottom = (round(float(np.clip(centre[1] + s * size[1] / 2, 0, picture.height))) for s in (-1, 1))
    return (float(left), float(top), float(right - left), float(bottom - top))


def _with_mask(annotation: Annotation, picture: Picture, model: Annotation) -> Annotation:
    """The annotation with another's mask, stretched to fill its box exactly."""
    assert model.counts is not None
    x, y, w, h = (int(v) for v in model.bbox)
    outline = decode_mask(model.counts, picture.height, picture.width)[y : y + h, x : x + w].astype(np.float32)
    left, top, width, height = (int(v) for v in annotation.bbox)
    mask = np.zeros((picture.height, picture.width), np.uint8)
    mask[top : top + height, left : left + width] = (
        cv2.resize(outline, (width, height), interpolation=cv2.INTER_AREA) > 0
    )
    counts, bbox, area = encode_mask(mask)
    return replace(annotation, counts=counts, bbox=bbox, area=area)
