"""What images are called in a CVAT file that is written, which task they belong to, and where their files go."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from curate.formats.base import Export
from curate.formats.cvat.images import IMAGES, frame_name
from curate.formats.cvat.meta import INFO
from curate.formats.cvat.source import NO_SUBSET, split_of_subset
from curate.formats.cvat.write_meta import Subset
from curate.formats.locations import report_splits, safe_location, strip_layout, unique_names
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text

_RENUMBERED = "numbers are not unique or whole; all are numbered anew"
_LONGEST_NUMBER = 9


@dataclass(frozen=True)
class Layout:
    """One value of each for n images.

    Attributes:
        names: What they are called.
        ids: Their numbers: of the image, or of the frame in the video.
        subsets: Their subsets in a project; None where the file is about one task.
        tasks: The ids of their tasks.
    """

    names: list[str]
    ids: list[int]
    subsets: list[str | None]
    tasks: list[str]

    def places(self) -> Iterator[str]:
        """Where the images go, below the target."""
        for name, subset in zip(self.names, self.subsets, strict=True):
            yield "/".join(part for part in (IMAGES, safe_location(subset or ""), name) if part)

    def summary(self) -> list[Subset]:
        """The tasks, in order of appearance, and how many images each has."""
        count = Counter(zip(self.subsets, self.tasks, strict=True))
        return [Subset(subset, task, images) for (subset, task), images in count.items()]


def lay_out_images(export: Export, losses: LossReport) -> Layout:
    """Names without the source's own folders for images and splits; a project if there are several subsets.

    Args:
        export: What is written.
        losses: Names and numbers that had to change, and image metadata that CVAT has no place for.
    """
    images = export.images
    locations, splits = images["location"].to_pylist(), images["split"].to_pylist()
    report_splits(splits, split_of_subset, losses)
    said = _said(images["metadata"].to_pylist(), locations, losses)
    subsets = [_subset(split, each) for split, each in zip(splits, said, strict=True)]
    if not _is_project(export, locations, subsets):
        names = unique_names(_cleaned(locations, splits, losses), losses)
        return Layout(names, _ids(images["source_id"].to_pylist(), losses), [None] * len(names), ["1"] * len(names))
    folders = [subset or NO_SUBSET for subset in subsets]
    stripped = _cleaned(locations, splits, losses)
    stripped = [name.removeprefix(f"{folder}/") for name, folder in zip(stripped, folders, strict=True)]
    placed = unique_names([f"{folder}/{name}" for name, folder in zip(stripped, folders, strict=True)], losses)
    names = [name.removeprefix(f"{folder}/") for name, folder in zip(placed, folders, strict=True)]
    numbers = {folder: str(number) for number, folder in enumerate(dict.fromkeys(folders), 1)}
    tasks = [str(each.get("task_id") or numbers[folder]) for each, folder in zip(said, folders, strict=True)]
    ids = _ids(images["source_id"].to_pylist(), losses, within=list(zip(folders, tasks, strict=True)))
    return Layout(names, ids, list(folders), tasks)


def lay_out_frames(export: Export, losses: LossReport) -> Layout:
    """Images as the frames of one video.

    Args:
        export: What is written.
        losses: Names and numbers that had to change, splits, and image metadata.
    """
    images = export.images
    locations, paths = images["location"].to_pylist(), images["path"].to_pylist()
    _said(images["metadata"].to_pylist(), locations, losses)
    given = numbers = images["frame"].to_pylist()
    if len(set(given)) < len(given) or any(number is None or number < 0 for number in given):
        groups = [group or "" for group in images["group"].to_pylist()]
        first = [0 if number is None else number for number in given]
        order = sorted(range(len(numbers)), key=lambda row: (groups[row], first[row], locations[row]))
        numbers = np.argsort(np.array(order, dtype=np.int64)).tolist()
        losses.converted("frame numbers", _RENUMBERED, "frames", sum(number is not None for number in given))
    suffixes = [PurePosixPath(path or location).suffix for path, location in zip(paths, locations, strict=True)]
    names = [frame_name(number) + suffix for number, suffix in zip(numbers, suffixes, strict=True)]
    for location, name in zip(locations, names, strict=True):
        if PurePosixPath(location).stem != PurePosixPath(name).stem:
            losses.converted("images", "renamed: CVAT names frames by their numbers", f"{location} -> {name}")
    ids = images["source_id"].to_pylist()
    lost = sum(each is not None and each != str(number) for each, number in zip(ids, numbers, strict=True))
    losses.dropped("image ids", "CVAT knows frames by their numbers", "frames", lost)
    splits = images["split"].to_pylist()
    if len(set(splits)) > 1:
        losses.dropped("splits", "a video is in one subset", "frames", len(splits) - splits.count(None))
    return Layout(names, numbers, [None] * len(names), ["1"] * len(names))


def task_subset(export: Export) -> str:
    """CVAT's subset of a task on its own, from the split that all its images have."""
    splits = set(export.images["split"].to_pylist())
    split = splits.pop() if len(splits) == 1 else None
    info = export.info.get(INFO)
    given = (
        next((task.get("subset") for task in info.values() if isinstance(task, dict)), None)
        if isinstance(info, dict)
        else None
    )
    if isinstance(given, str) and split_of_subset(given) == split:
        return given
    return split or NO_SUBSET


def _said(metadata: Sequence[str | None], locations: Sequence[str], losses: LossReport) -> list[dict[str, Any]]:
    """What CVAT said of each image."""
    found = []
    for text, location in zip(metadata, locations, strict=True):
        values = json.loads(text) if text else {}
        said = values.pop("cvat", None) if isinstance(values, dict) else None
        if values:
            losses.dropped("image metadata", "CVAT has no place for it", location)
        found.append(said if isinstance(said, dict) else {})
    return found


def _subset(split: str | None, said: dict[str, Any]) -> str | None:
    """The subset an image was in, if that is still its split; else the split."""
    given = said.get("subset")
    return given if isinstance(given, str) and split_of_subset(given) == split else split


def _is_project(export: Export, locations: Sequence[str], subsets: Sequence[str | None]) -> bool:
    if len(set(subsets)) > 1:
        return True
    is_in_folder = any(
        subset and location.startswith(f"{subset}/") for location, subset in zip(locations, subsets, strict=True)
    )
    info = export.info.get(INFO)
    return is_in_folder or (isinstance(info, dict) and "project" in info)


def _cleaned(locations: Sequence[str], splits: Sequence[str | None], losses: LossReport) -> list[str]:
    names = []
    for location, split in zip(locations, splits, strict=True):
        name = strip_layout(location, split)
        names.append(xml_text(name))
        if names[-1] != name:
            losses.converted("images", "characters that XML cannot hold were replaced", location)
    return names


def _ids(texts: Sequence[str | None], losses: LossReport, within: Sequence[Any] | None = None) -> list[int]:
    """The images' numbers as imported if they are whole and unique (within a task), else from 0."""
    digits = [text if text and text.isascii() and text.isdigit() else None for text in texts]
    numbers = [int(text) if text and len(text) <= _LONGEST_NUMBER else None for text in digits]
    keys = list(zip(within or [None] * len(texts), numbers, strict=True))
    if None not in numbers and len(set(keys)) == len(keys):
        return [number for number in numbers if number is not None]
    wrong = next((text for text, number in zip(texts, numbers, strict=True) if text and number is None), None)
    if None in texts:
        reason = "not every image has one; all are numbered anew"
    elif None in digits:
        reason = "not whole numbers; all are numbered anew"
    elif None in numbers:
        reason = f"CVAT's are numbers of at most {_LONGEST_NUMBER} digits; all are numbered anew"
    else:
        reason = "two images have the same; all are numbered anew"
    losses.converted("image ids", reason, wrong or "image ids", len(texts) - texts.count(None))
    return list(range(len(texts)))
