"""The quality check: measures a dataset's images and objects in one decoding, judges them, and makes findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Check, Judgement, Settings
from curate.checks.findings import FLAGGED, Finding, Kind, surest
from curate.checks.measures.table import Measures, read_measures, update_measures
from curate.checks.quality.broken import grey_among_color, is_missing, read_headers, unfinished
from curate.checks.quality.faults import FAULTS, OF_OBJECTS, Fault, judge_faults
from curate.checks.quality.judge import Odds, size_odds
from curate.checks.quality.objects import evidence_of_size, object_groups, shorter_sides
from curate.dataset import Transaction
from curate.dataset.query import in_layer
from curate.errors import UsageError
from curate.models.passes import LeftOut, crop_items, image_items
from curate.models.spaces import Content

_IMAGE_COLUMNS: Final = ["image_id", "location", "path", "width", "height"]
_OBJECT_COLUMNS: Final = ["annotation_id", "image_id", "label", "bbox", "source_id"]
_UNREADABLE: Final = 1.0
_OTHER_SIZE: Final = 0.9


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find pictures of poor quality, odd sizes and broken files; and objects that are dark or blurred on a good picture.

    Args:
        transaction: The dataset.
        settings: Its option `objects` (True if absent) says whether the boxes of `layer` are judged too.

    Raises:
        UsageError: No image is chosen.
    """
    images = transaction.read("images", columns=_IMAGE_COLUMNS, where=settings.where)
    if not images.num_rows:
        raise UsageError("there is no image to judge", where=settings.where, remedy="import images, or widen --where")
    objects = _objects(transaction, images, settings) if settings.options.get("objects", True) else None
    items: dict[Content, pa.Table] = {"images": image_items(images)}
    if objects is not None and objects.num_rows:
        items["crops"] = crop_items(objects, images)
    left_out = update_measures(transaction, items, progress=settings.progress)[0].left_out
    measures, there = read_measures(transaction, "images", images["image_id"])
    measured = images.filter(pa.array(there))
    odds = judge_faults(measures)
    notes = _notes_on(left_out)
    findings = [
        *_image_findings(measured, measures, odds, settings.min_score),
        *_unreadable(images, left_out),
        *_size_findings(images, notes, settings.min_score),
    ]
    if "crops" in items and objects is not None:
        crops, cut = read_measures(transaction, "crops", objects["annotation_id"])
        findings += _object_findings(objects.filter(pa.array(cut)), crops, measured, odds, settings)
    kept = [finding for finding in findings if finding.score >= settings.min_score]
    flagged = sum(finding.score >= FLAGGED for finding in kept)
    counted = f" and {objects.num_rows:,} objects" if objects is not None else ""
    seen = set(images["image_id"].to_pylist())
    return Judgement(
        surest(kept),
        f"{transaction.base.name}: {images.num_rows:,} images{counted} measured; {flagged:,} flagged",
        notes,
        judged=lambda finding: (
            finding.image_id in seen
            and (finding.annotation_id is None or (objects is not None and _layer(finding) == settings.layer))
        ),
    )


CHECK: Final = Check("quality", judge)


def _objects(transaction: Transaction, images: pa.Table, settings: Settings) -> pa.Table:
    """The boxes of a layer on these images."""
    objects = transaction.read("annotations", columns=_OBJECT_COLUMNS, where=in_layer(settings.layer))
    chosen = pc.is_in(objects["image_id"], images["image_id"].combine_chunks())
    return objects.filter(pc.and_(chosen, pc.is_valid(objects["bbox"])))


def _image_findings(images: pa.Table, measures: Measures, odds: dict[str, Odds], min_score: float) -> Iterator[Finding]:
    """Faults of light, color, focus and noise, grey images among colored ones, and images that end early."""
    for fault in FAULTS:
        found = odds[fault.name]
        for row in np.flatnonzero(found.probability >= min_score).tolist():
            yield _finding(
                images, row, fault.kind, float(found.probability[row]), _evidence(fault, found, measures, row)
            )
    for row, score, why in unfinished(measures):
        yield _finding(images, row, "corrupt", score, {"why": why})
    for row, score, why in grey_among_color(measures):
        yield _finding(images, row, "color_cast", score, {"why": why})


def _object_findings(
    objects: pa.Table, crops: Measures, images: pa.Table, odds: dict[str, Odds], settings: Settings
) -> Iterator[Finding]:
    """Objects that are dark or blurred among those of their class and size, on images that are not."""
    sides = shorter_sides(objects["bbox"])
    groups = object_groups(objects["label"], sides)
    position = pc.index_in(objects["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
    of_crops = judge_faults(crops, groups)
    for fault in FAULTS:
        if fault.name not in OF_OBJECTS:
            continue
        own = of_crops[fault.name]
        on_good_image = odds[fault.name].probability[position] < FLAGGED
        scores = own.probability * evidence_of_size(sides) * on_good_image
        for row in np.flatnonzero(scores >= settings.min_score).tolist():
            evidence = _evidence(fault, own, crops, row)
            evidence |= {"why": f"the object, not the image: {fault.why}", "layer": settings.layer}
            of_object = objects.slice(row, 1).to_pylist()[0]
            yield _finding(images, int(position[row]), fault.kind, float(scores[row]), evidence, of_object)


def _unreadable(images: pa.Table, left_out: Sequence[LeftOut]) -> Iterator[Finding]:
    """Files that cannot be decoded to the end."""
    rows = {image: row for row, image in enumerate(images["image_id"].to_pylist())} if left_out else {}
    for each in left_out:
        if not is_missing(each):
            yield _finding(images, rows[each.id], "corrupt", _UNREADABLE, {"why": each.reason})


def _size_findings(images: pa.Table, notes: list[str], min_score: float) -> Iterator[Finding]:
    """Unusual sizes and shapes, and files of another size than recorded; turned files are noted."""
    columns = (images[name].to_pylist() for name in ("path", "width", "height"))
    headers = read_headers(*columns)
    if headers.turned:
        notes.append(f"{headers.turned:,} files are stored turned; their EXIF orientation is applied everywhere here")
    for row, header in headers.disagreeing:
        recorded = [images[name][row].as_py() for name in ("width", "height")]
        why = "the annotations were made for another size than the file has"
        evidence = {"why": why, "recorded": recorded, "file": [header.width, header.height]}
        yield _finding(images, row, "odd_size", _OTHER_SIZE, evidence)
    sized = images.filter(pc.and_(pc.greater(images["width"], 0), pc.greater(images["height"], 0)))
    width, height = (pc.cast(sized[name], pa.float64()).to_numpy() for name in ("width", "height"))
    kinds: tuple[tuple[Kind, str], ...] = (
        ("odd_size", "far larger or smaller than the others"),
        ("odd_aspect", "of another shape than the others"),
    )
    for (kind, why), odds in zip(kinds, size_odds(width, height), strict=True):
        for row in np.flatnonzero(odds.probability >= min_score).tolist():
            shape: dict[str, Any] = {"why": why, "width": int(width[row]), "height": int(height[row])}
            yield _finding(sized, row, kind, float(odds.probability[row]), shape)


def _evidence(fault: Fault, odds: Odds, measures: Measures, row: int) -> dict[str, Any]:
    """Why: a sentence, what was measured, and what is usual."""
    shown = {name: round(float(measures.columns[name][row]), 4) for name in fault.shown}
    parts = {"severity": odds.severity, "typical": odds.typical, "relative": odds.relative, "absolute": odds.absolute}
    return {"why": fault.why, "fault": fault.name, **shown} | {
        name: round(float(values[row]), 4) for name, values in parts.items()
    }


def _finding(
    images: pa.Table,
    row: int,
    kind: Kind,
    score: float,
    evidence: dict[str, Any],
    of_object: dict[str, Any] | None = None,
) -> Finding:
    about = of_object or {}
    return Finding(
        kind=kind,
        score=min(score, 1.0),
        image=images["location"][int(row)].as_py(),
        image_id=images["image_id"][int(row)].as_py(),
        check=CHECK.name,
        annotation_id=about.get("annotation_id"),
        source_annotation_id=about.get("source_id"),
        bbox=about.get("bbox"),
        given=about.get("label"),
        evidence=evidence,
    )


def _notes_on(left_out: Sequence[LeftOut]) -> list[str]:
    missing = [row for row in left_out if is_missing(row)]
    if not missing:
        return []
    first = missing[0].path or missing[0].id
    return [f"{len(missing):,} image files are not there and are not judged, first {first}"]


def _layer(finding: Finding) -> object:
    return finding.evidence.get("layer")
