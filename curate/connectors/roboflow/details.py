"""One image as the service tells of it: its annotations as rows, and what curate left in its metadata and tags.

Boxes have their centre in ``x`` and ``y``; every number may be a text. An outline is ``points``, in pixels. What a model drew
has a ``confidence``. An image that nobody has annotated has no boxes, or a list where others have an object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from curate.connectors.base import Item, RemoteAnnotation, Row
from curate.connectors.roboflow.api import id_of
from curate.connectors.roboflow.recognition import Known, Seen, load, place_ids, recognise
from curate.dataset.schema import ANNOTATIONS
from curate.formats.locations import split_name
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape, problem_of, shape_columns
from curate.formats.values import mapping, number, points, sequence, text, whole
from curate.names import GROUND_TRUTH, PREDICTIONS

IMAGE_KEY: Final = "curate"
HASH_KEY: Final = "curate_hash"
LOCATION_KEY: Final = "curate_location"
SPLIT_KEY: Final = "curate_split"
GROUP_KEY: Final = "curate_group"
FRAME_KEY: Final = "curate_frame"
BOXES_KEY: Final = "curate_boxes"
FINDINGS_KEY: Final = "curate_findings"
OWN: Final = "curate"
"""What the keys of metadata and the tags begin with that are curate's own."""

DEFAULT_SPLIT: Final = "train"
"""Where the service puts an image without a split, and one whose split it does not have; `SPLIT_KEY` says which it was."""

MODEL: Final = f"{PREDICTIONS}roboflow"
"""Layer of what the service's own models drew."""

_PLACES: Final = 6
_DIGEST_BYTES: Final = 12
_SETTLED: Final = ""


@dataclass(frozen=True)
class Drawn:
    """An annotation of an image.

    Attributes:
        seen: Its class and place.
        shape: Its geometry; all of an image's for a class of the whole image.
        score: A model's confidence.
        problem: What cannot be read of it, in words for the loss report.
    """

    seen: Seen
    shape: Shape
    score: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Details:
    """An image.

    Attributes:
        said: What the service says.
        classified: Whether the project's images have classes and no boxes.
        accepted: Whether it is in the project's dataset: a person has handed it in.
    """

    said: Mapping[str, Any]
    classified: bool = False
    accepted: bool = False
    metadata: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", mapping(self.said.get("metadata")))

    @property
    def image_id(self) -> str | None:
        """curate's own id of it, if curate put it there."""
        return id_of("image", self.metadata.get(IMAGE_KEY))

    @property
    def name(self) -> str:
        """The file's name."""
        return text(self.said.get("name")) or text(self.said.get("id"))

    @property
    def tags(self) -> list[str]:
        """All tags, curate's own among them."""
        return [tag for tag in sequence(self.said.get("tags")) if isinstance(tag, str)]

    @property
    def split(self) -> str | None:
        """The split: the one that it had before the service gave it another, unless somebody there chose one since."""
        given = text(self.said.get("split"))
        before = id_of("split", self.metadata.get(SPLIT_KEY))
        if before is not None and given == DEFAULT_SPLIT:
            return before or None
        return split_name(given) or given or None

    @property
    def frame(self) -> int | None:
        """Its place in its group, if curate put it there and it had one."""
        said = id_of("frame", self.metadata.get(FRAME_KEY)) or ""
        return int(said) if said.isdecimal() else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height, where the service tells."""
        annotation = mapping(self.said.get("annotation"))
        width, height = whole(_number(annotation.get("width"))), whole(_number(annotation.get("height")))
        return (width, height) if width and height else None

    @property
    def findings(self) -> dict[str, str]:
        """Kinds of the findings that curate left here by their ids; no kind if a person has settled it."""
        try:
            left = mapping(json.loads(text(self.metadata.get(FINDINGS_KEY)) or "{}"))
        except ValueError:
            return {}
        tags = set(self.tags)
        return {key: str(kind) if tag_of(str(kind)) in tags else _SETTLED for key, kind in left.items()}

    @cached_property
    def drawn(self) -> list[Drawn]:
        """The annotations in the service's order."""
        if self.classified:
            labels = [label for label in sequence(self.said.get("labels")) if isinstance(label, str)]
            return [Drawn(Seen(label, (0.0, 0.0, 0.0, 0.0)), WHOLE_IMAGE) for label in labels]
        boxes = sequence(mapping(self.said.get("annotation")).get("boxes"))
        return [_drawn(mapping(box)) for box in boxes]

    @cached_property
    def known(self) -> list[Known]:
        """What each annotation is; one that curate has never seen has an id made of its place."""
        seen = [each.seen for each in self.drawn]
        found = recognise(seen, load(self.metadata.get(BOXES_KEY)))
        unknown = [place for place, known in enumerate(found) if known is None]
        made = place_ids([seen[place] for place in unknown], {known.remote_id for known in found if known})
        for place, key in zip(unknown, made, strict=True):
            layer = "" if self.drawn[place].score is None else MODEL
            found[place] = Known(key, seen[place], layer=layer)
        return [
            self._settled(known, drawn) for known, drawn in zip(found, self.drawn, strict=True) if known is not None
        ]

    @property
    def version(self) -> str:
        """A digest of all that matters here."""
        names = ("name", "annotation", "labels", "split", "metadata")
        said = {key: self.said.get(key) for key in names} | {"tags": sorted(self.tags)}
        return f"{_digest(said)}{'+' if self.accepted else ''}"

    @property
    def work(self) -> str:
        """A digest of what was handed in; empty as long as nothing was."""
        return _digest([self.said.get("annotation"), self.said.get("labels")]) if self.accepted else ""

    def item(self, losses: LossReport, *, known_version: str | None = None) -> Item:
        """The image as the rest of curate sees it, without annotations if its version is known."""
        version = self.version
        said = {key: self.said[key] for key in ("created",) if self.said.get(key) is not None}
        own = {key: value for key, value in self.metadata.items() if not key.startswith(OWN)}
        return Item(
            remote_id=text(self.said.get("id")),
            location=text(self.metadata.get(LOCATION_KEY)) or self.name,
            version=version,
            annotations=None if version == known_version else self.annotations(losses),
            image_id=self.image_id,
            size=self.size,
            content_hash=id_of("hash", self.metadata.get(HASH_KEY)),
            work=self.work,
            resolved=frozenset(key for key, kind in self.findings.items() if kind == _SETTLED),
            split=self.split,
            tags=[tag for tag in self.tags if not is_own_tag(tag)],
            group=id_of("group", self.metadata.get(GROUP_KEY)),
            frame=self.frame,
            metadata=own | {f"roboflow_{key}": value for key, value in said.items()} | {"accepted": self.accepted},
        )

    def annotations(self, losses: LossReport) -> list[RemoteAnnotation]:
        """The annotations that can be read; predictions are in their own layer."""
        readable = [number for number, each in enumerate(self.drawn) if each.problem is None]
        for each in self.drawn:
            if each.problem is not None:
                losses.dropped("annotations", each.problem, f"{self.name}: {each.seen.label}")
        rows = _rows([self.drawn[number] for number in readable])
        return [_annotation(self.known[number], row) for number, row in zip(readable, rows, strict=True)]

    def _settled(self, known: Known, drawn: Drawn) -> Known:
        """A prediction holds, and is an annotation of its own, once a person has accepted the image."""
        if known.layer and self.accepted:
            return Known(f"accepted:{known.remote_id}", drawn.seen)
        return replace(known, seen=drawn.seen)


def tag_of(kind: str) -> str:
    """The tag that shows findings of a kind."""
    return f"{OWN}-{kind.replace('_', '-')}"


def is_own_tag(tag: str) -> bool:
    """Whether a tag is one of those that curate says something with."""
    return tag == OWN or tag.startswith(f"{OWN}-")


def _annotation(known: Known, row: Row) -> RemoteAnnotation:
    score = row["score"] if known.layer else None
    return RemoteAnnotation(
        known.remote_id, row | {"score": score}, known.layer or GROUND_TRUTH, known.annotation_id or None
    )


def _drawn(box: Mapping[str, Any]) -> Drawn:
    label = text(box.get("label"))
    sides = [_number(box.get(key)) for key in ("x", "y", "width", "height")]
    x, y, width, height = ((0.0 if side is None else side) for side in sides)
    given = (x - width / 2, y - height / 2, width, height)
    corner_x, corner_y, width, height = (round(side, _PLACES) for side in given)
    seen = Seen(label, (corner_x, corner_y, width, height))
    score = _number(box.get("confidence"))
    outline = points([[_number(side) for side in sequence(pair)] for pair in sequence(box.get("points"))])
    if box.get("keypoints"):
        return Drawn(seen, Shape(list(seen.box)), score, "keypoints, which the service does not describe")
    if None in sides:
        return Drawn(seen, WHOLE_IMAGE, score, "without four numbers for a box")
    if not box.get("points"):
        shape = Shape(list(seen.box))
    else:
        shape = Shape(list(seen.box), polygons=[[round(side, _PLACES) for side in outline or []]])
    return Drawn(seen, shape, score, problem_of(shape))


def _rows(drawn: list[Drawn]) -> list[Row]:
    if not drawn:
        return []
    columns = {
        name: pa.array(values).to_pylist() for name, values in shape_columns([each.shape for each in drawn]).items()
    }
    empty: Row = dict.fromkeys(ANNOTATIONS.names)
    return [
        empty
        | {name: values[number] for name, values in columns.items()}
        | {"label": each.seen.label or None, "score": each.score, "attributes": {}}
        for number, each in enumerate(drawn)
    ]


def _number(value: Any) -> float | None:
    """A number, which may be written as a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return number(value)


def _digest(said: Any) -> str:
    text_ = json.dumps(said, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text_.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
