"""The quality check: measures a dataset's images and objects in one decoding, judges them, and makes findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Check, Judgement, Settings
from curate.checks.findings import FLAGGED, Finding, Kind, surest
from curate.checks.measures.table import Measures, read_measures, update_measures
from curate.checks.quality.broken import Headers, grey_among_color, is_missing, read_headers, unfinished
from curate.checks.quality.faults import FAULTS, Fault, judge_faults, levels_kept
from curate.checks.quality.judge import Odds, size_odds
from curate.checks.quality.lighting import lighting
from curate.checks.quality.objects import Objects, judge_objects
from curate.dataset import Transaction
from curate.dataset.query import in_layer
from curate.errors import UsageError
from curate.models.passes import LeftOut, crop_items, image_items
from curate.models.spaces import Content
from curate.wording import counted

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
    # What was measured of a file that can no longer be read is of pixels which are gone.
    gone = pa.array([each.id for each in left_out], pa.string())
    readable = images.filter(pc.invert(pc.is_in(images["image_id"], gone)))
    measures, there = read_measures(transaction, "images", readable["image_id"])
    measured = readable.filter(pa.array(there))
    odds = judge_faults(measures)
    headers = read_headers(*(images[name].to_pylist() for name in ("path", "width", "height")))
    findings = [
        *_image_findings(measured, measures, odds, settings.min_score),
        *_unreadable(images, left_out),
        *_size_findings(images, headers, settings.min_score),
    ]
    if objects is not None:
        objects = objects.filter(pc.is_in(objects["image_id"], measured["image_id"].combine_chunks()))
        crops, cut = read_measures(transaction, "crops", objects["annotation_id"])
        objects = objects.filter(pa.array(cut))
        findings += _object_findings(objects, crops, measured, measures, odds, settings)
    kept = [finding for finding in findings if finding.score >= settings.min_score]
    seen = set(images["image_id"].to_pylist())
    return Judgement(
        joined(kept),
        f"{transaction.base.name}: {_counted(measured, objects, left_out)}; "
        f"{sum(finding.score >= FLAGGED for finding in kept):,} flagged",
        _notes(images, headers, measures),
        judged=lambda finding: (
            finding.image_id in seen
            and (finding.annotation_id is None or (objects is not None and _layer(finding) == settings.layer))
        ),
        tables={
            title: rows
            for title, rows in (
                ("Unusual light, no fault", _unusual_light(measured, measures)),
                ("Stored turned, no fault", _turned(images, headers)),
            )
            if rows
        },
    )


CHECK: Final = Check(
    "quality", judge, tuple(dict.fromkeys([*(fault.kind for fault in FAULTS), "odd_size", "odd_aspect", "corrupt"]))
)


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
        yield _finding(images, row, "corrupt", score, {"why": why, "fault": "ended early"})
    for row, score, why in grey_among_color(measures):
        if odds["low information"].probability[row] < FLAGGED:  # what shows nothing has no color either
            yield _finding(images, row, "color_cast", score, {"why": why, "fault": "grey"})


def _object_findings(
    objects: pa.Table,
    crops: Measures,
    images: pa.Table,
    measures: Measures,
    odds: dict[str, Odds],
    settings: Settings,
) -> Iterator[Finding]:
    """Objects that are dark or blurred among those of their class and size, more than the images that they are on."""
    boxes = Objects.of(objects, images)
    found = judge_objects(boxes, crops, measures, odds)
    for fault in FAULTS:
        if fault.name not in found:
            continue
        scores, own = found[fault.name]
        for row in np.flatnonzero(scores >= settings.min_score).tolist():
            evidence = _evidence(fault, own, crops, row)
            evidence |= {"why": f"the object, not the image: {fault.why}", "layer": settings.layer}
            of_object = objects.slice(row, 1).to_pylist()[0]
            yield _finding(images, int(boxes.image[row]), fault.kind, float(scores[row]), evidence, of_object)


def _unusual_light(images: pa.Table, measures: Measures) -> list[dict[str, Any]]:
    """Images that are lit from one side or from behind, unlike the others; most unusual first."""
    light = lighting(measures)
    rows = []
    unusual = levels_kept(measures) & (np.maximum(light.is_side, light.is_back) >= FLAGGED)
    for row in np.flatnonzero(unusual).tolist():
        x, y, center = float(light.x[row]), float(light.y[row]), float(light.center[row])
        if light.is_back[row] > light.is_side[row]:
            come_from, octaves = "behind", -center
        else:
            come_from = ("right" if x > 0 else "left") if abs(x) > abs(y) else ("below" if y > 0 else "above")
            octaves = float(np.hypot(x, y))
        score = float(max(light.is_side[row], light.is_back[row]))
        image = images["location"][row].as_py()
        rows.append({"image": image, "light from": come_from, "octaves": round(octaves, 2), "score": round(score, 3)})
    return sorted(rows, key=lambda each: (-each["score"], -each["octaves"], each["image"]))


def _turned(images: pa.Table, headers: Headers) -> list[dict[str, Any]]:
    """Images that are shown otherwise than they are stored, for programs that do not look at EXIF."""
    rows = []
    for row, header in headers.turned:
        stored = " x ".join(str(side) for side in header.stored_size)
        shown = f"{header.width} x {header.height}"
        image = images["location"][row].as_py()
        rows.append({"image": image, "orientation": header.orientation, "stored": stored, "shown": shown})
    return sorted(rows, key=lambda each: str(each["image"]))


def _unreadable(images: pa.Table, left_out: Sequence[LeftOut]) -> Iterator[Finding]:
    """Files that are not there, or cannot be decoded to the end."""
    rows = {image: row for row, image in enumerate(images["image_id"].to_pylist())} if left_out else {}
    for each in left_out:
        fault = "missing file" if is_missing(each) else "unreadable"
        yield _finding(images, rows[each.id], "corrupt", _UNREADABLE, {"why": each.reason, "fault": fault})


def _size_findings(images: pa.Table, headers: Headers, min_score: float) -> Iterator[Finding]:
    """Unusual sizes and shapes, and files of another size than recorded."""
    for row, header in headers.disagreeing:
        recorded = [images[name][row].as_py() for name in ("width", "height")]
        why = "the annotations were made for another size than the file has"
        evidence = {"why": why, "fault": "recorded size", "recorded": recorded, "file": [header.width, header.height]}
        yield _finding(images, row, "odd_size", _OTHER_SIZE, evidence)
    sized = images.filter(pc.and_(pc.greater(images["width"], 0), pc.greater(images["height"], 0)))
    width, height = (pc.cast(sized[name], pa.float64()).to_numpy() for name in ("width", "height"))
    kinds: tuple[tuple[Kind, str, str], ...] = (
        ("odd_size", "size", "far larger or smaller than the others"),
        ("odd_aspect", "shape", "of another shape than the others"),
    )
    for (kind, fault, why), odds in zip(kinds, size_odds(width, height), strict=True):
        for row in np.flatnonzero(odds.probability >= min_score).tolist():
            shape: dict[str, Any] = {"why": why, "fault": fault, "width": int(width[row]), "height": int(height[row])}
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


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of each id, the surest; its evidence names the other faults of its kind, `also`, surest first."""
    faults: dict[str, list[str]] = {}
    for finding in sorted(findings, key=lambda finding: -finding.score):
        faults.setdefault(finding.id, []).append(str(finding.evidence["fault"]))
    return [
        replace(finding, evidence={**finding.evidence, "also": also}) if (also := faults[finding.id][1:]) else finding
        for finding in surest(findings)
    ]


def _counted(measured: pa.Table, objects: pa.Table | None, left_out: Sequence[LeftOut]) -> str:
    """What was looked at, and what could not be."""
    missing = sum(is_missing(each) for each in left_out)
    counts = counted(measured.num_rows, "images")
    if objects is not None:
        counts += f" and {counted(objects.num_rows, 'objects')}"
    parts = [f"{counts} measured"]
    if missing:
        parts.append(f"{counted(missing, 'files')} not there")
    if len(left_out) > missing:
        parts.append(f"{counted(len(left_out) - missing, 'files')} cannot be read")
    return ", ".join(parts)


def _notes(images: pa.Table, headers: Headers, measures: Measures) -> list[str]:
    notes = []
    if headers.turned:
        first = images["location"][headers.turned[0][0]].as_py()
        notes.append(
            f"{counted(len(headers.turned), 'images')} stored turned; the EXIF orientation is applied everywhere here; "
            f"the first: {first}"
        )
    if scaled := int((~levels_kept(measures)).sum()):
        notes.append(
            f"{counted(scaled, 'images')} of more than 8 bits, seen scaled by the own range of each: exposure, contrast, "
            "noise and banding are not judged there"
        )
    return notes


def _layer(finding: Finding) -> object:
    return finding.evidence.get("layer")
