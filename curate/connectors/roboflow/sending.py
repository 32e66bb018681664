"""Sending one image: uploaded with its annotations, or changed where it is.

What curate knows of the annotations is noted in the image's metadata before the annotations themselves are sent, so that they
are recognised whenever a push stops.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from curate.connectors.base import Change, NewItem, Note, Row
from curate.connectors.http import Part
from curate.connectors.roboflow import details as fields
from curate.connectors.roboflow.api import Api, text_id
from curate.connectors.roboflow.details import DEFAULT_SPLIT, OWN, Details, is_own_tag, tag_of
from curate.connectors.roboflow.drawing import FILE_NAME, Classes, Sketch, class_file, coco_file, sketch
from curate.connectors.roboflow.recognition import Known, Seen, dump
from curate.errors import InputError
from curate.formats.locations import file_name
from curate.formats.losses import LossReport

LEVELS: Final = ("curate-p1", "curate-p2", "curate-p3")
"""Tags of images by their score: from 2/3, from 1/3, below."""

_SPLITS: Final[Mapping[str, str]] = {"train": "train", "val": "valid", "test": "test"}
_TAG: Final = re.compile(r"[A-Za-z0-9\-_:/.\[\]<>{}@]{1,64}")
_NEAR: Final = 0.5
_NO_SPLIT: Final = "the service has train, valid and test: it is in train there, and curate remembers which it was"
_NO_TAG: Final = (
    f"the service takes 1 to 64 letters, digits and -_:/.[]<>{{}}@, and those with '{OWN}-' are curate's own"
)


@dataclass(frozen=True)
class Sender:
    """Sends images to a project.

    Attributes:
        api: The workspace.
        project: The project.
        classes: What the project's images are given.
        look: The details of an image, by its id; None if it is not in the project.
    """

    api: Api
    project: str
    classes: Classes
    look: Callable[[str], Details | None]

    def create(self, item: NewItem, batch: str, losses: LossReport) -> str | None:
        """Upload an image with its annotations; its id, or None if it cannot be there."""
        is_prediction = not item.rows
        if item.rows:
            reason = "one image has one set of annotations, and the ground truth was sent"
            losses.dropped("predictions", reason, item.location, len(item.predictions))
        rows = item.predictions if is_prediction else item.rows
        pairs = self._sketches(rows, item.location, losses)
        known = [_known(row, drawn, row["layer"] if is_prediction else "") for row, drawn in pairs]
        metadata = {
            fields.IMAGE_KEY: text_id("image", item.image_id),
            fields.HASH_KEY: text_id("hash", item.content_hash),
            fields.LOCATION_KEY: item.location,
            **_place(item),
            **_boxes(known, item.location, losses),
            **_said(item.notes, {}),
        }
        if item.split and item.split not in _SPLITS:
            losses.converted("splits", _NO_SPLIT, f"{item.location}: {item.split}")
        for tag in (tag for tag in item.tags or () if not _can_be(tag)):
            losses.dropped("tags", _NO_TAG, f"{item.location}: {tag}")
        name = file_name(item.location.rpartition("/")[2])
        image = self._upload(item, name, batch, metadata, losses)
        if image is not None and pairs:
            query = {"jobName": batch} | ({"prediction": "true"} if is_prediction else {})
            sketches = [drawn for _, drawn in pairs]
            if not self._annotate(image, name, item.size, sketches, query):
                self._tell_kept(image, item, sketches, losses)
        return image

    def change(self, change: Change, losses: LossReport) -> bool:
        """Replace an image's annotations, and show findings on it; False if it is gone, or was changed meanwhile."""
        image, place = change.item.remote_id, change.item.location
        found = self.look(image)
        if found is None:
            losses.dropped("images", "no longer there", place)
            return False
        if self._is_overtaken(change, found):
            return False
        drawn = self._drawn(change, found, losses)
        notes = [] if drawn is None else [note for note, _ in drawn]
        # Beside what is there now: whichever the service has afterwards is recognised.
        metadata = {
            fields.IMAGE_KEY: text_id("image", change.image_id),
            **_boxes([*notes, *found.known], place, losses),
            **_said(change.notes, found.findings),
        }
        levels = [] if change.priority is None else [_level(change.priority)]
        remove = [tag for tag in LEVELS if levels and tag not in levels and tag in found.tags]
        self.api.update(image, metadata=metadata, add=[OWN, *levels, *_tags(change.notes)], remove=remove)
        if drawn is not None:
            size = change.size or found.size
            if size is None:
                raise InputError("the image's size is not known, and annotations need it", where=place)
            self._annotate(image, found.name, size, [each for _, each in drawn], {"overwrite": "true"})
        return True

    def _upload(
        self, item: NewItem, name: str, batch: str, metadata: Mapping[str, str], losses: LossReport
    ) -> str | None:
        """Put an image there; its id, or None if its bytes are another image there."""
        split = _SPLITS.get(item.split or "", DEFAULT_SPLIT)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        tags = [OWN, _level(item.priority), *_tags(item.notes), *filter(_can_be, item.tags or ())]
        image, is_there = self.api.upload(
            self.project,
            {"name": name, "batch": batch, "tag": tags},
            {"name": name, "split": split, "metadata": json.dumps(metadata)},
            Part("file", name, item.path.read_bytes(), kind),
        )
        if is_there:
            found = self.look(image)
            if found is None:
                losses.dropped("images", "another project of the workspace has the same bytes", item.location)
                return None
            if found.image_id not in (None, item.image_id):
                losses.dropped("images", "another image there has the same bytes", item.location)
                return None
            if found.said.get("split") not in (None, split):
                reason = "the image was there, in another split, which holds"
                losses.converted("splits", reason, f"{item.location}: {found.said['split']}")
            self.api.update(image, metadata=metadata, add=tags, remove=[])
        return image

    def _tell_kept(self, image: str, item: NewItem, sketches: Sequence[Sketch], losses: LossReport) -> None:
        """The service kept annotations that it had; fine if they are those, whose reply was lost."""
        found = self.look(image)
        there = sorted(each.seen.label for each in found.drawn) if found else []
        if there != sorted(each.seen.label for each in sketches):
            reason = "the image was there, with annotations of its own: they are left as they are"
            losses.dropped("annotations", reason, item.location, len(sketches))

    def _is_overtaken(self, change: Change, found: Details) -> bool:
        """Whether somebody has changed there what is to be replaced, since the item was read."""
        before = {each.remote_id: each.row for each in change.item.annotations or ()}
        for known, drawn in zip(found.known, found.drawn, strict=True):
            key = known.remote_id
            if key not in before or not (key in change.updated or key in change.deleted):
                continue
            x, y, width, height = before[key]["bbox"] or (0.0, 0.0, 0.0, 0.0)
            may_be = [Seen(before[key]["label"] or "", (x, y, width, height))]
            # What is as it shall be was changed by a try whose end nobody saw.
            wanted = sketch(change.updated[key], "", LossReport(), self.classes) if key in change.updated else None
            may_be += [] if wanted is None else [wanted.seen]
            if not any(_is_same(each, drawn.seen) for each in may_be):
                return True
        return False

    def _drawn(self, change: Change, found: Details, losses: LossReport) -> list[tuple[Known, Sketch]] | None:
        """All that an image is to have; None if that is what it has."""
        place = change.item.location
        if not (change.created or change.updated or change.deleted):
            return None
        if any(each.problem for each in found.drawn):
            losses.dropped("changes", "the image has annotations that the service does not tell in full", place)
            return None
        there = {note.remote_id for note in found.known}
        losses.dropped("changes", "taken away there meanwhile", place, len(change.updated.keys() - there))
        replaced = {key: row for key, row in change.updated.items() if key in there}
        # A new one that is there was created by a try whose end nobody saw.
        replaced |= {str(row["annotation_id"]): row for row in change.created}
        drawn = []
        for note, each in zip(found.known, found.drawn, strict=True):
            if note.layer:
                losses.dropped("predictions", "one image has one set of annotations, and ground truth was sent", place)
            elif note.remote_id not in replaced and note.remote_id not in change.deleted:
                drawn.append((note, Sketch(each.seen, next(iter(each.shape.polygons or ()), None))))
        for key, row in replaced.items():
            own = sketch(row, place, losses, self.classes)
            if own is not None:
                drawn.append((replace(_known(row, own), remote_id=key), own))
        return drawn

    def _sketches(self, rows: Sequence[Row], place: str, losses: LossReport) -> list[tuple[Row, Sketch]]:
        drawn = [(row, sketch(row, place, losses, self.classes)) for row in rows]
        return [(row, each) for row, each in drawn if each is not None]

    def _annotate(
        self, image: str, name: str, size: tuple[int, int], sketches: Sequence[Sketch], query: Mapping[str, str]
    ) -> bool:
        """Send annotations; False if there are others that may not be overwritten."""
        if self.classes != "none":
            file = class_file(sketches, self.classes)
            return self.api.annotate(self.project, image, {"name": file, **query}, file)
        # An image joins the dataset when a person accepts it, not because curate sent it.
        query = {"name": FILE_NAME, "addToDataset": "false", **query}
        return self.api.annotate(self.project, image, query, coco_file(name, size, sketches))


def _known(row: Mapping[str, Any], drawn: Sketch, layer: str = "") -> Known:
    return Known(str(row["annotation_id"]), drawn.seen, str(row["annotation_id"]), layer)


def _place(item: NewItem) -> dict[str, str]:
    """Metadata of what the service has no place for: the split as it was, the group and the place in it."""
    said = {} if item.split in _SPLITS else {fields.SPLIT_KEY: text_id("split", item.split or "")}
    if item.group:
        said[fields.GROUP_KEY] = text_id("group", item.group)
    if item.frame is not None:
        said[fields.FRAME_KEY] = text_id("frame", str(item.frame))
    return said


def _can_be(tag: str) -> bool:
    """Whether the service can hold a tag as one of the image's."""
    return _TAG.fullmatch(tag) is not None and not is_own_tag(tag)


def _is_same(first: Seen, second: Seen) -> bool:
    sides = zip(first.box, second.box, strict=True)
    return first.label == second.label and all(abs(one - other) <= _NEAR for one, other in sides)


def _level(priority: float) -> str:
    return LEVELS[0 if priority >= 2 / 3 else 1 if priority >= 1 / 3 else 2]


def _tags(notes: Sequence[Note]) -> list[str]:
    return sorted({tag_of(note.finding.kind) for note in notes})


def _said(notes: Sequence[Note], before: Mapping[str, str]) -> dict[str, str]:
    """Metadata of findings: which they are, and what they say."""
    if not notes:
        return {}
    found = {**before, **{note.finding.id: note.finding.kind for note in notes}}
    texts: dict[str, list[str]] = {}
    for note in notes:
        texts.setdefault(f"{OWN}_{note.finding.kind}", []).append(note.text)
    return {fields.FINDINGS_KEY: json.dumps(found)} | {key: "\n".join(said) for key, said in texts.items()}


def _boxes(known: Sequence[Known], place: str, losses: LossReport) -> dict[str, str]:
    said = dump(known)
    if said is None:
        losses.converted("annotation ids", "too many for the image's metadata: recognised by their places only", place)
    return {fields.BOXES_KEY: said or "[]"}
