"""`curate depth`: which objects cannot be where, or as large as, they are said to be; which are far; tags for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Check, Judgement, Settings
from curate.checks.depth.evidence import distance_evidence, size_evidence
from curate.checks.depth.hidden import may_be_hidden
from curate.checks.depth.statistics import COLUMNS, ObjectDepths
from curate.checks.depth.table import Measured, read_depths, update_depths
from curate.checks.depth.thirds import NAMES, NONE, TAGS, class_thirds, image_tags
from curate.checks.depth.unusual import FEWEST, Sized, Trend, Unusual, unusual_distances, unusual_sizes
from curate.checks.findings import FLAGGED, Finding
from curate.checks.labels import Labels, load_labels
from curate.dataset import Transaction
from curate.dataset.ids import from_ids
from curate.dataset.tags import write_tags
from curate.errors import UsageError
from curate.models.depth.maps import DepthMaps, open_maps
from curate.models.passes import fingerprints, image_items, is_known
from curate.wording import counted

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CLASSES: Final = "Depth by class"
OBJECTS: Final = "Objects"

_KNOWN: Final = 0.5
_LEAST_PIXELS: Final = 4
_BORDER: Final = 0.005
_REMEDY: Final = "'curate predict --model onnx:DEPTH.onnx' makes them, or hf:FOLDER"
_TINY: Final = 1e-9


@dataclass(frozen=True)
class _Objects:
    """n objects whose depth is known, and large enough to trust it.

    Attributes:
        row: Of each in the layer's annotations; shape (n,).
        known: What there is to know of them.
        whole: Whether each is inside of the image: what is cut off says nothing of size; shape (n,).
    """

    row: IntArray
    known: Sized
    whole: BoolArray


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find objects that are too large or too small for where they are, or where their class never is.

    Args:
        transaction: The dataset. Its maps of depth are those of the model that `curate predict` ran last.
        settings: Options `tag` puts on each image the tag of the third of depth that most of its objects are in; `objects`
            lists the depths of each object.

    Raises:
        UsageError: No image is chosen, there is no such layer, or there are no maps and tags or objects are asked for.
    """
    labels = load_labels(transaction.base, settings.layer, settings.where)
    maps = open_maps(transaction.base)
    name = transaction.base.name
    if maps is None:
        if settings.options.get("tag") or settings.options.get("objects"):
            raise UsageError("there are no depth maps", where=name, remedy=_REMEDY)
        return Judgement([], f"{name}: no depth maps; {_REMEDY}", judged=lambda finding: False)
    measured = update_depths(transaction, maps, labels.layer, labels.images, settings.progress)
    depths = read_depths(transaction, maps, labels.annotations["annotation_id"])
    metric = bool(pc.all(maps.table["metric"]).as_py())
    known = labels.boxed & ~labels.crowd & (labels.label >= 0) & (depths.known >= _KNOWN) & ~np.isnan(depths.depth)
    third, bounds = class_thirds(np.where(known, depths.depth, np.nan), labels.label)
    objects = _objects(labels, depths, known & (depths.pixels >= _LEAST_PIXELS), metric=metric)
    findings, trends = _findings(labels, objects, settings.min_score, metric=metric)
    notes = _notes(labels, maps, measured, known, metric=metric)
    if settings.options.get("tag"):
        notes.append(_tag(transaction, labels, third))
    tables: dict[str, list[dict[str, Any]]] = {CLASSES: _class_rows(labels, known, bounds, trends)}
    if settings.options.get("objects"):
        tables[OBJECTS] = _object_rows(labels, depths, third)
    looked_at = set(labels.annotations["annotation_id"].to_pylist())
    return Judgement(
        findings,
        f"{name}: {counted(int(known.sum()), 'objects')} on {counted(maps.table.num_rows, 'depth maps')} of {maps.model} "
        f"({'metres' if metric else 'relative'}); flagged for size or distance: "
        f"{sum(finding.score >= FLAGGED for finding in findings):,}",
        notes,
        judged=lambda finding: finding.annotation_id in looked_at,
        tables=tables,
    )


CHECK: Final = Check("depth", judge, ("outlier",))


def _objects(labels: Labels, depths: ObjectDepths, usable: BoolArray, *, metric: bool) -> _Objects:
    row = np.flatnonzero(usable)
    image, box = labels.image[row], labels.bbox[row]
    sizes = labels.sizes[image]
    margin = np.maximum(_BORDER * sizes, 1.0)
    whole = (box[:, :2] >= margin).all(axis=1) & (box[:, :2] + box[:, 2:] <= sizes - margin).all(axis=1)
    side = np.sqrt(box[:, 2] * box[:, 3])
    part = side / np.sqrt(sizes.prod(axis=1))
    depth, group = depths.depth[row], labels.image_groups()[image]
    hidden = may_be_hidden(box, image, depth, metric=metric)
    return _Objects(row, Sized(part, side, depth, labels.label[row], image, group, hidden), np.asarray(whole))


def _findings(
    labels: Labels, objects: _Objects, min_score: float, *, metric: bool
) -> tuple[list[Finding], dict[int, Trend]]:
    """One for each object that is unusual in size or in distance; of both, the surer one, which names the other.

    Also what is usual for each class.
    """
    whole = np.flatnonzero(objects.whole)
    known = objects.known
    sizes, trends = unusual_sizes(known.take(whole), metric=metric)
    found: dict[int, Finding] = {}
    for place in _told(sizes, min_score):
        row = int(whole[place])
        evidence = size_evidence(known, row, float(sizes.usual[place]), trends, labels.classes, metric=metric)
        found[row] = _finding(labels, int(objects.row[row]), sizes, place, evidence)
    if metric:
        distances = unusual_distances(known.depth, known.label, known.group)
        for row in _told(distances, min_score):
            evidence = distance_evidence(known, row, labels.classes)
            new = _finding(labels, int(objects.row[row]), distances, row, evidence)
            found[row] = _both(found[row], new) if row in found else new
    return list(found.values()), trends


def _told(unusual: Unusual, min_score: float) -> list[int]:
    return list(np.flatnonzero(unusual.p_outlier >= max(min_score, _TINY)).tolist())


def _both(one: Finding, other: Finding) -> Finding:
    """The surer of two findings on one object, with what the other says."""
    first, second = sorted((one, other), key=lambda finding: -finding.score)
    return replace(first, evidence={**first.evidence, "also": second.evidence["why"]})


def _finding(labels: Labels, row: int, unusual: Unusual, place: int, evidence: Mapping[str, Any]) -> Finding:
    annotation = labels.annotations.slice(row, 1).to_pylist()[0]
    image = labels.images.slice(int(labels.image[row]), 1).to_pylist()[0]
    return Finding(
        kind="outlier",
        score=float(unusual.p_outlier[place]),
        image=image["location"],
        image_id=image["image_id"],
        check=CHECK.name,
        annotation_id=annotation["annotation_id"],
        source_annotation_id=annotation["source_id"],
        bbox=annotation["bbox"],
        given=annotation["label"],
        evidence={
            **evidence,
            "deviation": round(float(unusual.deviation[place]), 2),
            "p_value": float(unusual.p_value[place]),
        },
    )


def _class_rows(
    labels: Labels, known: BoolArray, bounds: Mapping[int, tuple[float, float]], trends: Mapping[int, Trend]
) -> list[dict[str, Any]]:
    """What there is to know of each class, the most frequent first."""
    counts = np.bincount(labels.label[known], minlength=len(labels.classes))
    rows = []
    for number in np.argsort(-counts, kind="stable").tolist():
        if counts[number]:
            near, far = bounds.get(number, (None, None))
            rows.append(
                {
                    "class": labels.classes[number],
                    "objects": int(counts[number]),
                    "near_up_to": None if near is None else round(near, 3),
                    "far_from": None if far is None else round(far, 3),
                    "sizes_judged": number in trends,
                    "scatter": round(trends[number].scatter, 3) if number in trends else None,
                }
            )
    return rows


def _object_rows(labels: Labels, depths: ObjectDepths, third: IntArray) -> list[dict[str, Any]]:
    """The depths of each object that has any, by image, the nearest first."""
    there = np.flatnonzero(depths.known > 0)
    chosen = labels.annotations.take(pa.array(there)).select(["annotation_id", "image_id", "label", "bbox"])
    places = labels.images["location"].take(pa.array(labels.image[there])).to_pylist()
    numbers = {name: getattr(depths, name)[there] for name in COLUMNS}
    rows = []
    for place, row in enumerate(chosen.to_pylist()):
        values = {name: round(float(column[place]), 4) for name, column in numbers.items()}
        part = int(third[there[place]])
        rows.append(
            {
                "image": places[place],
                **row,
                "third": None if part == NONE else NAMES[part],
                **{name: None if np.isnan(value) else value for name, value in values.items()},
            }
        )
    return sorted(rows, key=lambda row: (row["image"], row["depth"] is None, row["depth"], row["annotation_id"]))


def _tag(transaction: Transaction, labels: Labels, third: IntArray) -> str:
    """Tag the images; says what came of it. Tags from before that hold no longer go."""
    tags = image_tags(third, labels.image, labels.images.num_rows)
    changes = write_tags(transaction, from_ids(labels.images["image_id"]), tags, group=TAGS, replace=True)
    counts = [f"{tag} {pc.sum(pc.equal(tags, tag)).as_py() or 0:,}" for tag in TAGS]
    return f"images tagged: {', '.join(counts)}; {counted(changes.images, 'images')} changed"


def _notes(labels: Labels, maps: DepthMaps, measured: Measured, known: BoolArray, *, metric: bool) -> list[str]:
    notes = []
    items = image_items(labels.images)
    covered = np.asarray(pc.is_in(items["id"], value_set=maps.table["id"].combine_chunks()))
    current = is_known(items["id"], fingerprints(items), maps.table)
    for rows, what in (
        (~covered, "without a depth map"),
        (covered & ~current, "with the depth map of an earlier file"),
    ):
        if rows.any():
            notes.append(f"{counted(int(rows.sum()), 'images')} {what}; curate predict with the same model makes them")
    if measured.sizeless:
        notes.append(f"{counted(measured.sizeless, 'images')} of unknown size are left out")
    if measured.left_out:
        count = counted(len(measured.left_out), "depth maps")
        notes.append(f"{count} cannot be read; the first: {measured.left_out[0]}; curate predict makes them again")
    if not metric:
        notes.append(
            "depths are relative to their image: sizes are judged where they fall with depth; distances of images cannot be "
            "compared, and are not judged"
        )
    counts = np.bincount(labels.label[known], minlength=len(labels.classes))
    rare = int(((counts > 0) & (counts < FEWEST)).sum())
    if rare:
        notes.append(f"{counted(rare, 'classes')} with fewer than {FEWEST} objects are not judged")
    return notes
