"""Reading CVAT files: the images or tracks of each, one after another."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree.ElementTree import Element

from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records, merge_classes
from curate.formats.collect import Collector
from curate.formats.cvat.document import annotation_files, is_cvat, read_elements
from curate.formats.cvat.images import IMAGES, ImageFiles, frame_name
from curate.formats.cvat.meta import INFO, LABELS, Meta, parse_meta
from curate.formats.cvat.shapes import is_shape
from curate.formats.cvat.source import NO_SUBSET, Source, size_of
from curate.formats.cvat.tracks import Tracks, frame_number
from curate.formats.locations import safe_location
from curate.formats.losses import LossReport
from curate.formats.video import extract_frames, is_video

_REMEDY: Final = "give the annotations.xml that CVAT exported, or its folder"
_LARGEST_SIDE: Final = 2**31 - 1


def detect(source: Path) -> Detection | None:
    """A file that begins as CVAT's, or a folder with such a file."""
    if source.is_file():
        return Detection(0.95, "XML with <annotations>, as CVAT writes it") if is_cvat(source) else None
    if not source.is_dir():
        return None
    names = annotation_files(source, peek=True)
    if not names:
        return None
    nearest = min(names, key=lambda name: name.count("/"))
    confidence = (0.95, 0.9, 0.75)[min(nearest.count("/"), 2)]
    return Detection(confidence, f"{nearest}: XML with <annotations>, as CVAT writes it")


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a CVAT file, or all those in a folder.

    Args:
        source: File or folder.
        options: `images` is a folder of images, or the video that the file is about; `files` is where frames of a video
            go.
        losses: What has no place in the dataset.

    Raises:
        FormatError: There is no CVAT file, or nothing can be read from it.
        UsageError: `options.images` is not there.
        InputError: Frames of a video cannot be written.
    """
    if options.images is not None and not options.images.exists():
        raise UsageError("there is no such folder of images", where=options.images, remedy="check --images")
    root = source if source.is_dir() else source.parent
    names = annotation_files(source) if source.is_dir() else [source.name]
    if not names:
        raise FormatError("there is no CVAT file", where=source, remedy=_REMEDY)
    collector = Collector(options, losses)
    read_in: list[Meta] = []
    failure: FormatError | None = None
    for name in names:
        parent = str(PurePosixPath(name).parent)
        prefix = "" if parent == "." else f"{parent}/"
        folder = options.images if options.images is not None and options.images.is_dir() else root / parent
        file = Source(name, ImageFiles(folder.absolute(), prefix), options, collector, losses)
        try:
            _read_file(root / name, file)
        except FormatError as error:
            if losses.strict:
                raise
            failure = error
            if not file.sizes:
                losses.dropped("files", error.what, name)
                continue
            losses.dropped("files", f"{error.what}; what came before is kept", name)
        read_in.append(file.meta)
    if failure is not None and not read_in:
        raise failure
    return collector.records(_classes(read_in, losses), _info(read_in))


def _read_file(path: Path, file: Source) -> None:
    tracks = Tracks(file)
    has_images = False
    for element in read_elements(path):
        if element.tag == "meta":
            file.meta = parse_meta(element)
            file.cut = _cut_frames(path, file)
        elif element.tag == "image":
            has_images = True
            _read_image(element, file)
        elif element.tag == "track":
            tracks.read(element)
        elif element.tag != "version":
            file.losses.dropped("fields", "not known in a CVAT file", f"{file.name}: <{element.tag}>")
    if has_images:
        return
    _list_frames(file, tracks)


def _list_frames(file: Source, tracks: Tracks) -> None:
    """Take the frames of videos that have no annotation as images too, where they have a file."""
    is_project = "project" in file.meta.rest
    for task_id, task in file.meta.tasks.items():
        if not task.is_video:
            continue
        tracks.list_frames((task.subset or NO_SUBSET) if is_project else None, task, task_id if is_project else None)
        if not is_project:  # in a project the tasks of a subset count their frames on from each other
            known = {frame for _, frame in tracks.rows if frame in task.frames}
            if len(known) < len(task.frames):
                first = next(frame for frame in task.frames if frame not in known)
                reason = "frames of a video that have neither an annotation nor a file"
                count = len(task.frames) - len(known)
                file.losses.dropped("images", reason, f"{file.name}: {frame_name(first)}", count)


def _read_image(element: Element, file: Source) -> None:
    identity, subset = element.get("id"), element.get("subset")
    task = file.meta.task(element.get("task_id"))
    frame = int(identity) if identity and identity.isascii() and identity.isdigit() and len(identity) < 10 else None
    name = safe_location(element.get("name", "")) or (frame_name(frame) if frame is not None else "")
    if not name:
        file.losses.dropped("images", "without a name or a number", file.name)
        return
    location, path = file.files.find(name, subset)
    size = _size(element)
    row = file.collector.image(
        location,
        path,
        size=size,
        split=file.split(subset, task),
        group=task.group if task.is_video else None,
        frame=frame if task.is_video else None,
        metadata=file.image_metadata(element.get("task_id"), subset),
        source_id=identity,
        source=file.name,
    )
    known = size_of(size, path) if element.find("mask") is not None else size
    file.sizes[row] = known
    for number, child in enumerate(element):
        place = f"{file.name}: {location}: {child.tag} {number}"
        if not is_shape(child):
            file.losses.dropped("annotations", f"<{child.tag}> is not a shape that is known", place)
            continue
        label = child.get("label") or None
        drawn = file.draw(child, label, known, place)
        if drawn is not None:
            file.add(row, label, *drawn, place)


def _size(element: Element) -> tuple[int, int] | None:
    """Width and height as stated, if they are whole numbers above 0."""
    texts = element.get("width", ""), element.get("height", "")
    if not all(text.isascii() and text.isdigit() and len(text) < 11 for text in texts):
        return None
    width, height = map(int, texts)
    return (width, height) if 0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE else None


def _cut_frames(path: Path, file: Source) -> dict[int, Any]:
    """Cut the frames that have annotations out of the video that a task is about, where it is there and they are not."""
    video = _video(path.parent, file)
    if video is None or file.options.files is None:
        return {}
    numbers = {
        number
        for element in read_elements(path)
        if element.tag == "track"
        for child in element
        if (number := frame_number(child)) is not None and file.files.frame(number, element.get("subset"))[1] is None
    }
    if not numbers:
        return {}
    folder = file.options.files / video.stem
    return {frame.number: frame for frame in extract_frames(video, folder, numbers=numbers, losses=file.losses)}


def _video(folder: Path, file: Source) -> Path | None:
    """The video that a file with one task is about."""
    given = file.options.images
    if given is not None and given.is_file():
        return given if is_video(given.name) else None
    task = file.meta.task(None)
    name = PurePosixPath(safe_location(task.video or "")).name
    if not is_video(name):
        return None
    places = [given or folder, folder, folder / IMAGES]
    return next((place / name for place in places if os.path.isfile(place / name)), None)  # noqa: PTH113 - never raises


def _classes(read_in: list[Meta], losses: LossReport) -> list[ClassInfo]:
    """The classes of all files; a skeleton that no file declares has the points of its first example."""
    classes = merge_classes([meta.classes for meta in read_in], losses)
    points = {label: tuple(names) for meta in reversed(read_in) for label, names in meta.keypoints.items() if label}
    known = [each if each.keypoints else replace(each, keypoints=points.get(each.name, ())) for each in classes]
    listed = {each.name for each in known}
    return known + [ClassInfo(name, keypoints=names) for name, names in points.items() if name not in listed]


def _info(read_in: list[Meta]) -> dict[str, object]:
    info: dict[str, object] = {}
    labels: dict[str, Any] = {}
    for meta in reversed(read_in):
        labels |= {name: fields for name, fields in meta.labels.items() if fields}
        if meta.rest:
            info[INFO] = meta.rest
    return info | ({LABELS: labels} if labels else {})
