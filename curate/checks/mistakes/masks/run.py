"""Wrong masks of a dataset: reads masks piece by piece, keeps a few numbers of each, and draws again only what is suspected.

Images are taken in the order of their ids, some thousand masks at a time, so memory does not grow with what the masks hold, the
number of classes, or the pixels; what is kept of a mask are twenty numbers or so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.findings import FLAGGED, Finding, Kind, Related
from curate.checks.labels import Labels
from curate.checks.mistakes.looks import Looks, weigh_suspects
from curate.checks.mistakes.masks.errors import mask_errors
from curate.checks.mistakes.masks.impossible import Measures, impossible_masks
from curate.checks.mistakes.masks.measures import NUMBERS, crossing, doubles, holes, measure, specks
from curate.checks.mistakes.masks.rehearsal import Rehearsed, rehearse, worse_than_usual
from curate.checks.mistakes.masks.scene import (
    Item,
    Objects,
    Regions,
    Scene,
    compare_instances,
    compare_maps,
    difference,
    joined_objects,
    joined_regions,
    rows,
)
from curate.checks.mistakes.masks.shapes import SHAPE_COLUMNS, Stored, Window, encode, has_shape, stored_masks
from curate.checks.mistakes.tables import Suspects, image_scores
from curate.dataset import Dataset
from curate.dataset.ids import from_ids
from curate.dataset.query import in_layers, quote

_AT_ONCE: Final = 8192
"""Masks that are read together."""

_IMAGES_AT_ONCE: Final = 256
_JOINED: Final = 1024
_DOUBLE: Final = 0.9
_MOSTLY: Final = 0.5

_Compared = tuple[Objects, Regions, Rehearsed]


def compared_as_masks(labels: Labels, models: Mapping[str, Labels]) -> dict[str, Labels]:
    """The predictions layers whose masks, and not their boxes, are compared with a layer: those of masks, if it has masks."""
    if masked(labels).sum() < _MOSTLY * labels.boxed.sum() or not masked(labels).any():
        return {}
    return {name: model for name, model in models.items() if len(model.label) and masked(model).mean() >= _MOSTLY}


def masked(labels: Labels) -> BoolArray:
    """Which annotations are masks or polygons; bool array of shape (n,)."""
    return np.isin(np.asarray(labels.annotations["type"]), ("mask", "polygon"))


def judge_masks(
    dataset: Dataset,
    labels: Labels,
    models: Mapping[str, Labels],
    *,
    min_score: float,
    check: str,
    looks: FloatArray | None = None,
) -> list[Finding]:
    """Find wrong masks.

    Args:
        dataset: Where they are read.
        labels: The layer that is judged.
        models: The predictions layers that are compared with it (`compared_as_masks`); each on its own.
        min_score: Findings below are left out.
        check: Name of the check.
        looks: Probability of each annotation's class by its crop, NaN where it was not judged (`looks.weigh_suspects`).
    """
    if not masked(labels).any():
        return []
    reader = _Reader(dataset, labels, models)
    measures, compared = _numbers(reader)
    alone = impossible_masks(measures)
    findings = _Findings(reader, check, min_score)
    per_image = _per_image(alone, labels.images.num_rows)
    kept = alone.take(alone.score >= min_score)
    chosen = [_Suspect.alone(kept, row, measures) for row in range(len(kept))]
    for name, (objects, regions, trials) in compared.items():
        worse = worse_than_usual(objects, trials, len(labels.classes))
        found = mask_errors(objects, regions, len(labels.classes), min_score=min(min_score, 0.01), worse=worse)
        if looks is not None:
            # A crop shows all regions of an annotation, and says nothing of a single one.
            own_looks = np.where(objects.pieces == 1, looks[objects.row], np.nan)
            found = weigh_suspects(found, replace(Looks.of(looks, labels.label).take(objects.row), p_given=own_looks))
        per_image = 1.0 - (1.0 - per_image) * (1.0 - image_scores(found, labels.images.num_rows))
        kept = found.take(found.score >= min_score)
        chosen += [_Suspect.compared(kept, row, name, objects, regions) for row in range(len(kept))]
    return findings.make(chosen, per_image)


@dataclass(frozen=True)
class _Image:
    """The masks of one image: of the labels, and of each model, with their rows in the layers."""

    image: int
    truth: Sequence[tuple[int, Stored]]
    found: Mapping[str, Sequence[tuple[int, Stored]]]

    def size(self, model: str) -> tuple[int, int]:
        """[height, width] of the image, as far as it is known."""
        return next((stored.size for _, stored in (*self.truth, *self.found.get(model, ()))), (1, 1))


class _Reader:
    """Reads the masks of some layers, image by image."""

    def __init__(self, dataset: Dataset, labels: Labels, models: Mapping[str, Labels]) -> None:
        self.labels, self.models = labels, models
        self._dataset = dataset
        self._layers = {labels.layer: labels, **models}
        self._keys = {name: from_ids(layer.annotations["annotation_id"]) for name, layer in self._layers.items()}
        self._ids = labels.images["image_id"].combine_chunks()
        self.is_map = {name: _is_map(layer) for name, layer in self._layers.items()}
        self._scores = {
            name: pc.fill_null(model.annotations["score"], 1.0).to_numpy() for name, model in models.items()
        }
        self.covered = {name: _flags(labels.covered_by(model), len(self._ids)) for name, model in models.items()}

    def every(self) -> Iterator[_Image]:
        """All images that have masks, in the order of their ids."""
        masks = sum(len(layer.label) for layer in self._layers.values())
        step = max(1, _AT_ONCE * len(self._ids) // max(masks, 1))
        for start in range(0, len(self._ids), step):
            ends = self._ids[start].as_py(), self._ids[min(start + step, len(self._ids)) - 1].as_py()
            yield from self._read(f"image_id >= {quote(ends[0])} AND image_id <= {quote(ends[1])}")

    def some(self, images: Sequence[int]) -> Iterator[_Image]:
        """Those of some images, by their rows."""
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            ids = self._ids.take(pa.array(images[start : start + _IMAGES_AT_ONCE], pa.int64())).to_pylist()
            yield from self._read(f"image_id IN ({', '.join(map(quote, ids))})")

    def scene(self, image: _Image, model: str) -> Scene:
        """An image's masks against those that a model predicts."""
        labels, other = self.labels, self.models[model]
        crowd = labels.crowd
        truth = [(row, stored, bool(crowd[row])) for row, stored in image.truth]
        size = image.size(model)
        objects = [
            Item(row, int(labels.label[row]), window, 1.0, is_crowd)
            for row, stored, is_crowd in truth
            if stored.size == size and (window := stored.window()) is not None
        ]
        scores = self._scores[model]
        found = [
            Item(row, int(other.label[row]), window, float(scores[row]))
            for row, stored in image.found.get(model, ())
            if stored.size == size and (window := stored.window()) is not None
        ]
        if self.is_map[model]:
            return compare_maps(objects, found, size, split=self.is_map[labels.layer])
        return compare_instances(objects, found, size)

    def _read(self, where: str) -> Iterator[_Image]:
        table = self._dataset.table(
            "annotations", columns=list(SHAPE_COLUMNS), where=f"{in_layers(list(self._layers))} AND {where}"
        )
        table = table.filter(pa.array(has_shape(table)))
        by_layer = {name: self._of_layer(table, name) for name in self._layers}
        own = by_layer[self.labels.layer]
        for image in sorted({image for found in by_layer.values() for image in found}):
            others = {name: by_layer[name].get(image, ()) for name in self.models}
            yield _Image(image, own.get(image, ()), others)

    def _of_layer(self, table: pa.Table, name: str) -> dict[int, list[tuple[int, Stored]]]:
        """The masks of a layer by image, in the order of their ids."""
        layer, known = self._layers[name], self._keys[name]
        table = table.filter(pc.equal(table["layer"], name))
        keys = from_ids(table["annotation_id"])
        order = np.argsort(keys, kind="stable")
        place = np.minimum(np.searchsorted(known, keys[order]), max(len(known) - 1, 0))
        there = known[place] == keys[order] if len(known) else np.zeros(len(keys), dtype=np.bool_)
        place, table = place[there], table.take(pa.array(order[there]))
        image = layer.image[place]
        found: dict[int, list[tuple[int, Stored]]] = {}
        for number, row, stored in zip(
            image.tolist(), place.tolist(), stored_masks(table, self.labels.sizes[image]), strict=True
        ):
            found.setdefault(number, []).append((row, stored))
        return found


@dataclass(frozen=True)
class _Suspect:
    """One suspect, and where it can be drawn again.

    Attributes:
        kind: Of the finding.
        score: Its probability.
        reason: Why.
        numbers: The numbers behind it.
        image: Row of the image.
        annotation: Row of the annotation, or -1.
        whole: Whether the annotation has no other regions than this one.
        label: Suggested class, or -1.
        related: Row of another annotation that is part of it, or -1.
        model: The layer that it was found by; '' for none.
        place: Of the object in its scene, or -1.
        region: Of the predicted region there, or -1.
        under: Place of the object that the region lies on, or -1.
    """

    kind: str
    score: float
    reason: str
    numbers: dict[str, float]
    image: int
    annotation: int = NOWHERE
    whole: bool = True
    label: int = NOWHERE
    related: int = NOWHERE
    model: str = ""
    place: int = NOWHERE
    region: int = NOWHERE
    under: int = NOWHERE

    @classmethod
    def alone(cls, found: Suspects, row: int, masks: Measures) -> _Suspect:
        """One that was found without a model."""
        related = int(found.related[row])
        return cls(
            **_common(found, row), annotation=int(masks.annotation[found.annotation[row]]),
            related=NOWHERE if related < 0 else int(masks.annotation[related]),
        )  # fmt: skip

    @classmethod
    def compared(cls, found: Suspects, row: int, model: str, objects: Objects, regions: Regions) -> _Suspect:
        """One that disagrees with a model."""
        thing, region = int(found.annotation[row]), int(found.prediction[row])
        at_object = thing >= 0
        return cls(
            **_common(found, row), label=int(found.label[row]), model=model,
            annotation=int(objects.row[thing]) if at_object else NOWHERE,
            whole=not at_object or int(objects.pieces[thing]) == 1,
            place=int(objects.place[thing]) if at_object else NOWHERE,
            region=int(regions.place[region]) if region >= 0 else NOWHERE,
            under=int(regions.under[region]) if region >= 0 and not at_object else NOWHERE,
        )  # fmt: skip


@dataclass(frozen=True)
class _Findings:
    """Turns suspects into findings, with the region in question."""

    reader: _Reader
    check: str
    min_score: float

    def make(self, chosen: Sequence[_Suspect], per_image: FloatArray) -> list[Finding]:
        """One finding for each suspect; its image is drawn once more for the region."""
        by_image: dict[int, list[_Suspect]] = {}
        for suspect in chosen:
            by_image.setdefault(suspect.image, []).append(suspect)
        findings = []
        for image in self.reader.some(sorted(by_image)):
            scenes = {
                name: self.reader.scene(image, name)
                for name in self.reader.models
                if any(suspect.model == name for suspect in by_image[image.image])
            }
            stored = dict(image.truth)
            for suspect in by_image[image.image]:
                scene = scenes.get(suspect.model)
                region = self._own_region(suspect, stored) if scene is None else self._region(suspect, scene)
                findings.append(self._finding(suspect, scene, region, float(per_image[suspect.image])))
        return findings

    def _region(self, suspect: _Suspect, scene: Scene) -> dict[str, Any] | None:
        """The pixels in question: the region that is not labelled, the object, or where both outlines differ."""
        size = self._size(suspect)
        if suspect.region != NOWHERE:
            window = scene.found[suspect.region].window
        elif suspect.kind == "bad_mask":
            window = difference(scene, suspect.place, size or _extent(scene)) or scene.truth[suspect.place].window
        else:
            window = scene.truth[suspect.place].window
        return _drawn(window, size or _extent(scene))

    def _own_region(self, suspect: _Suspect, stored: Mapping[int, Stored]) -> dict[str, Any] | None:
        """The holes, the specks, the loop, or all of the mask; None for one that cannot be drawn."""
        mask = stored[suspect.annotation]
        if "loop_share" in suspect.numbers:
            loops = [each for each in map(crossing, mask.polygons or ()) if each is not None]
            loop = max(loops, key=lambda each: each.share).loop
            low, high = loop.min(axis=0), loop.max(axis=0)
            return {"bbox": [*low.tolist(), *(high - low).tolist()], "polygon": loop.ravel().tolist()}
        window = mask.window()
        if window is None:
            return None
        if "hole_share" in suspect.numbers:
            window = holes(window)
        elif "speck_share" in suspect.numbers:
            window = specks(window)
        return None if window is None else _drawn(window, mask.size)

    def _finding(
        self, suspect: _Suspect, scene: Scene | None, region: dict[str, Any] | None, image_score: float
    ) -> Finding:
        labels = self.reader.labels
        kind, annotation, given, related = suspect.kind, suspect.annotation, NOWHERE, suspect.related
        if annotation != NOWHERE:
            given = int(labels.label[annotation])
        elif scene is not None and suspect.under != NOWHERE and self.reader.is_map[labels.layer]:
            # Where every pixel has a class, a region that lacks one has another.
            related = scene.truth[suspect.under].row
            kind, given = "mislabeled", int(labels.label[related])
        evidence: dict[str, Any] = {"why": suspect.reason, "flagged": suspect.score >= FLAGGED, **suspect.numbers}
        evidence |= {"image_score": image_score, "layer": labels.layer, "region": region}
        if scene is not None:
            evidence["prediction"] = self._prediction(suspect, scene)
        if not suspect.whole:
            related, annotation = annotation, NOWHERE
        return Finding(
            kind=cast(Kind, kind),
            score=suspect.score,
            check=self.check,
            given=None if given < 0 else labels.classes[given],
            suggested=None if suspect.label < 0 else labels.classes[suspect.label],
            related=[] if related == NOWHERE else [self._related(related)],
            evidence=evidence,
            **self._place(suspect.image, annotation, region),
        )

    def _place(self, image: int, annotation: int, region: Mapping[str, Any] | None) -> dict[str, Any]:
        images, labels = self.reader.labels.images, self.reader.labels
        place = {"image": images["location"][image].as_py(), "image_id": images["image_id"][image].as_py()}
        if annotation == NOWHERE:
            return {**place, "bbox": None if region is None else region["bbox"]}
        bbox = labels.bbox[annotation]
        return place | {
            "annotation_id": labels.annotations["annotation_id"][annotation].as_py(),
            "source_annotation_id": labels.annotations["source_id"][annotation].as_py(),
            "bbox": bbox.tolist() if np.isfinite(bbox).all() else None,
        }

    def _related(self, annotation: int) -> Related:
        place = self._place(int(self.reader.labels.image[annotation]), annotation, None)
        return Related(place["image"], place["image_id"], place["annotation_id"])

    def _prediction(self, suspect: _Suspect, scene: Scene) -> dict[str, Any]:
        """The model's mask that the finding compares with, as evidence; its layer alone where there is none."""
        card: dict[str, Any] = {"layer": suspect.model}
        place = suspect.region
        if place == NOWHERE and suspect.place != NOWHERE:
            common = scene.common[suspect.place]
            place = int(common.argmax()) if common.max(initial=0.0) > 0 else NOWHERE
        if place == NOWHERE:
            return card
        item, model = scene.found[place], self.reader.models[suspect.model]
        label = model.classes[item.label] if item.label >= 0 else None
        identity = model.annotations["annotation_id"][item.row].as_py()
        return card | {"annotation_id": identity, "label": label, "score": item.score, "bbox": item.window.bbox}

    def _size(self, suspect: _Suspect) -> tuple[int, int] | None:
        """[height, width] of the image, where it is known."""
        size = self.reader.labels.sizes[suspect.image]
        return (int(size[1]), int(size[0])) if np.isfinite(size).all() and (size > 0).all() else None


def _numbers(reader: _Reader) -> tuple[Measures, dict[str, _Compared]]:
    """The first pass: what each mask is like, how it compares with each model, and how it would if it were worse."""
    labels = reader.labels
    annotation: list[int] = []
    faults: list[str] = []
    numbers: list[FloatArray] = []
    twice: list[tuple[int, int, float]] = []
    parts = {name: _Parts([], [], []) for name in reader.models}
    count = int(masked(labels).sum())
    for image in reader.every():
        if image.truth:
            own = np.array([measure(stored) for _, stored in image.truth])
            twice += _doubles(image, own, labels, len(annotation))
            annotation += [row for row, _ in image.truth]
            faults += [stored.fault for _, stored in image.truth]
            numbers.append(own)
        for name, found in parts.items():
            if reader.covered[name][image.image]:
                scene, is_map = reader.scene(image, name), reader.is_map[name]
                found.add(rows(scene, image.image))
                found.trials.extend(rehearse(scene, image.image, image.size(name), count, is_map=is_map))
    chosen = np.array(annotation, dtype=np.int64)
    measures = Measures.of(
        chosen, labels.image[chosen], labels.label[chosen], faults, np.concatenate([np.zeros((0, len(NUMBERS))), *numbers]),
        labels.bbox[chosen], labels.crowd[chosen], twice,
    )  # fmt: skip
    return measures, {
        name: (*_join([*found.joined, *found.single]), Rehearsed.joined(found.trials)) for name, found in parts.items()
    }


@dataclass(frozen=True)
class _Parts:
    """The numbers of many images: joined now and then, since many small arrays take several times the memory of a large one."""

    joined: list[tuple[Objects, Regions]]
    single: list[tuple[Objects, Regions]]
    trials: list[Rehearsed]

    def add(self, part: tuple[Objects, Regions]) -> None:
        """Those of one more image."""
        self.single.append(part)
        if len(self.single) >= _JOINED:
            self.joined.append(_join(self.single))
            self.single.clear()


def _join(parts: Sequence[tuple[Objects, Regions]]) -> tuple[Objects, Regions]:
    return joined_objects([each for each, _ in parts]), joined_regions([each for _, each in parts])


def _doubles(image: _Image, numbers: FloatArray, labels: Labels, first: int) -> list[tuple[int, int, float]]:
    """Doubles among the masks of an image; its rows count on from `first`."""
    drawn = [k for k, (_, stored) in enumerate(image.truth) if stored.counts is not None and numbers[k, 0] > 0]
    stored = [image.truth[k][1] for k in drawn]
    label = labels.label[[image.truth[k][0] for k in drawn]]
    pairs = doubles(
        [each.counts or "" for each in stored], [each.size for each in stored], numbers[drawn, 1:5], label, _DOUBLE
    )
    return [(first + drawn[a], first + drawn[b], iou) for a, b, iou in pairs]


def _per_image(found: Suspects, images: int) -> FloatArray:
    """Probability that an image has any bad mask; of several suspects of one mask the surest counts."""
    _, surest = np.unique(found.annotation, return_index=True)
    return image_scores(found.take(np.sort(surest)), images)


def _is_map(labels: Labels) -> bool:
    """Whether a layer's masks are maps of classes: never two of a class on one image, and no doubt about an object's class."""
    chosen = masked(labels) & ~labels.crowd
    key = labels.image[chosen] * (len(labels.classes) + 1) + labels.label[chosen]
    return len(np.unique(key)) == len(key) and labels.probabilities(chosen) is None


def _common(found: Suspects, row: int) -> dict[str, Any]:
    numbers = {name: float(column[row]) for name, column in found.evidence.items() if np.isfinite(column[row])}
    return {
        "kind": str(found.kind[row]),
        "score": float(found.score[row]),
        "reason": str(found.reason[row]),
        "numbers": numbers,
        "image": int(found.image[row]),
    }


def _drawn(window: Window, size: Sequence[int]) -> dict[str, Any]:
    """A region, as evidence."""
    return {"bbox": window.bbox, "rle": encode(window, size), "size": [int(side) for side in size]}


def _extent(scene: Scene) -> tuple[int, int]:
    """A [height, width] that holds all of an image's masks, where its size is not known."""
    stops = [item.window.slices for item in (*scene.truth, *scene.found)]
    return max(each[0].stop for each in stops), max(each[1].stop for each in stops)


def _flags(chosen: IntArray, count: int) -> BoolArray:
    flags = np.zeros(count, dtype=np.bool_)
    flags[chosen] = True
    return flags
