"""One CVAT file while it is read: what it says of itself so far, and how its images and shapes come into the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from curate.errors import ImageError
from curate.formats.base import ReadOptions
from curate.formats.collect import Collector
from curate.formats.cvat.attributes import attributes_of
from curate.formats.cvat.images import ImageFiles
from curate.formats.cvat.meta import Meta, Task
from curate.formats.cvat.shapes import Drawn, draw
from curate.formats.cvat.skeletons import draw_skeleton
from curate.formats.locations import split_name
from curate.formats.losses import LossReport
from curate.formats.video import Frame
from curate.imaging import read_header
from curate.names import PREDICTIONS

NO_SUBSET = "default"
"""CVAT's name for no subset."""

_Size = tuple[int, int]


@dataclass
class Source:
    """A file that is being read.

    Attributes:
        name: Location of the file.
        files: Where its images are.
        options: What the user asked for.
        collector: Takes images and annotations.
        losses: Takes what cannot be kept.
        meta: The file's head; empty until it has come.
        cut: Frames that were cut out of the video that the file is about, by number.
        sizes: Width and height of each image, by its number in the collector, as far as known.
    """

    name: str
    files: ImageFiles
    options: ReadOptions
    collector: Collector
    losses: LossReport
    meta: Meta = field(default_factory=Meta)
    cut: Mapping[int, Frame] = field(default_factory=dict)
    sizes: dict[int, _Size | None] = field(default_factory=dict)

    def split(self, subset: str | None, task: Task) -> str | None:
        """The split of an image: the subset it is said to be in, else its task's, else what the file is called after."""
        return split_of_subset(subset) or split_of_subset(task.subset) or split_name(Path(self.name).stem)

    def image_metadata(self, task_id: str | None, subset: str | None) -> dict[str, Any] | None:
        """What is needed to write an image into the same task and subset again."""
        kept = {"task_id": task_id} if task_id else {}
        if subset and split_of_subset(subset) != subset:
            kept["subset"] = subset
        return {"cvat": kept} if kept else None

    def add(
        self,
        image: int,
        label: str | None,
        drawn: Drawn,
        attributes: dict[str, Any],
        place: str,
        key: str | None = None,
    ) -> bool:
        """Add an annotation; returns whether it was kept."""
        score = None
        if (self.options.layer or "").startswith(PREDICTIONS):
            score = _score(attributes)
        kept = self.collector.add(
            image,
            label,
            drawn.shape,
            place=place,
            attributes={**attributes, **drawn.kept},
            score=score,
            key=key,
            source=self.name,
            salt=self.name,
        )
        if kept and drawn.converted:
            self.losses.converted("annotations", drawn.converted, place)
        return kept

    def draw(
        self, element: Element, label: str | None, size: _Size | None, place: str
    ) -> tuple[Drawn, dict[str, Any]] | None:
        """A shape and its attributes; what cannot be read is reported."""
        is_skeleton = element.tag == "skeleton"
        drawn = draw_skeleton(element, label, self.meta, place, self.losses) if is_skeleton else draw(element, size)
        if isinstance(drawn, str):
            self.losses.dropped("annotations", drawn, place)
            return None
        return drawn, attributes_of(element, self.meta.input_types(label), place, self.losses)


def split_of_subset(subset: str | None) -> str | None:
    """The split that a subset of CVAT's stands for."""
    if subset is None or subset.strip().lower() in {NO_SUBSET, ""}:
        return None
    return split_name(subset) or subset


def size_of(stated: _Size | None, path: Path | None) -> _Size | None:
    """Width and height that coordinates refer to: as stated, else as the file has them."""
    if stated is not None or path is None:
        return stated
    try:
        header = read_header(path)
    except ImageError:
        return None
    return header.width, header.height


def _score(attributes: dict[str, Any]) -> float | None:
    """The confidence among a prediction's attributes, taken out of them."""
    value = attributes.get("score")
    try:
        score = float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None
    if score is None or not 0 <= score <= 1:
        return None
    del attributes["score"]
    return score
