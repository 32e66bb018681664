"""A connector whose server is a dictionary: for tests of what `curate.connectors.sync` decides, with faults on demand."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from curate.connectors.addresses import Address
from curate.connectors.base import Change, Item, NewItem, Progress, Project, ProjectSpec, RemoteAnnotation, Row
from curate.errors import UnavailableError
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.names import GROUND_TRUTH


@dataclass
class Task:
    """An image on the server.

    Attributes:
        location: Its name.
        content: Its bytes.
        image_id: curate's id, or None.
        content_hash: Of its bytes, where the server tells.
        rows: Annotations by remote id.
        own_ids: curate's ids of them, where it sent them.
        work: Changes when somebody hands in work.
        notes: Ids of findings shown.
        unlabelled: Whether its work was skipped.
        other: Annotations beside ground truth.
    """

    location: str
    content: bytes
    image_id: str | None = None
    content_hash: str | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    own_ids: dict[str, str] = field(default_factory=dict)
    work: str = ""
    notes: set[str] = field(default_factory=set)
    unlabelled: bool = False
    other: list[RemoteAnnotation] = field(default_factory=list)


class Cut(UnavailableError):
    """The connection was cut by a test."""


@dataclass
class Memory:
    """The server, and the connector to it.

    Attributes:
        tasks: By remote id.
        fault: Called with the name of every step before ('before create 3') and after the server acted; may raise.
        carries_ids: Whether the server keeps curate's annotation ids.
        holds: What the server makes of a row; None for one that it cannot hold.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    fault: Callable[[str], None] = lambda step: None
    carries_ids: bool = True
    holds: Callable[[Row], Row | None] = lambda row: row
    classes: list[ClassInfo] = field(default_factory=list)
    address: Address = field(default_factory=lambda: Address("memory", "host", "projects/1"))
    moved: int = 0
    downloads: int = 0
    _next: int = 0

    def add(self, location: str, content: bytes, rows: Sequence[Row] = (), **known: Any) -> str:
        """Put an image there, as if somebody else had."""
        self._next += 1
        task = Task(location, content, **known)
        for row in rows:
            task.rows[self._id("s")] = copy.deepcopy(row)
        self.tasks[str(self._next)] = task
        return str(self._next)

    def _id(self, prefix: str) -> str:
        self._next += 1
        return f"{prefix}:{self._next}"

    def project(self) -> Project:
        return Project(self.address, "memory", self.classes)

    def ensure_project(self, spec: ProjectSpec, losses: LossReport) -> Project:
        known = {info.name for info in self.classes}
        self.classes += [info for info in spec.classes if info.name not in known]
        return self.project()

    def items(
        self, *, unless: Mapping[str, str], losses: LossReport, progress: Progress | None = None
    ) -> Iterator[Item]:
        self.fault("items")
        for key, task in list(self.tasks.items()):
            annotations = [
                *(
                    RemoteAnnotation(rid, copy.deepcopy(row), GROUND_TRUTH, task.own_ids.get(rid))
                    for rid, row in task.rows.items()
                ),
                *task.other,
            ]
            said = [task.work, task.unlabelled, [(each.remote_id, each.layer, each.row) for each in annotations]]
            version = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
            same = unless.get(key) == version
            self.moved += not same
            yield Item(
                key,
                task.location,
                version,
                None if same else annotations,
                task.image_id,
                content_hash=task.content_hash,
                work=task.work,
                unlabelled=task.unlabelled,
            )

    def download(self, item: Item) -> bytes:
        self.downloads += 1
        return self.tasks[item.remote_id].content

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        for number, item in enumerate(items):
            self.fault(f"before create {number}")
            key = self.add(item.location, item.path.read_bytes(), image_id=item.image_id)
            self._store(self.tasks[key], item.rows)
            self.tasks[key].notes = {note.finding.id for note in item.notes}
            self.fault(f"after create {number}")

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        for number, change in enumerate(changes):
            self.fault(f"before change {number}")
            task = self.tasks[change.item.remote_id]
            for remote_id in change.deleted:
                task.rows.pop(remote_id, None)
            for remote_id, row in change.updated.items():
                task.rows[remote_id] = self.holds(_content(row)) or task.rows[remote_id]
            self._store(task, change.created)
            task.work = f"{task.work}, curate" if task.work else ""
            task.notes |= {note.finding.id for note in change.notes}
            self.fault(f"after change {number}")
        return ()

    def link_of(self, item: Item) -> str:
        return f"memory://{item.remote_id}"

    def _store(self, task: Task, rows: Sequence[Row]) -> None:
        for row in rows:
            held = self.holds(_content(row))
            if held is None:
                continue
            remote_id = self._id("s")
            task.rows[remote_id] = held
            if self.carries_ids:
                task.own_ids[remote_id] = row["annotation_id"]


def _content(row: Row) -> Row:
    left_out = ("annotation_id", "image_id", "layer", "source", "source_id")
    return {key: copy.deepcopy(value) for key, value in row.items() if key not in left_out}


def box(label: str, x: float, y: float = 5.0, **attributes: Any) -> Row:
    """A box of 10 x 12 pixels."""
    return {
        "type": "box",
        "label": label,
        "bbox": [x, y, 10.0, 12.0],
        "attributes": attributes,
        **dict.fromkeys(("rotated_box", "polygons", "rle", "rle_size", "keypoints", "area", "iscrowd", "score")),
    }


def png(seed: int) -> bytes:
    """A picture of 48 x 32 pixels of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
