"""Reading BDD100K: the frames of every file, and the images they are; see `curate.formats.bdd100k`."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records, merge_classes
from curate.formats.bdd100k.labels import JOINTS, Label, read_label
from curate.formats.collect import Collector
from curate.formats.files import decode_text, is_image, list_files, peek_files, read_head
from curate.formats.locations import safe_location, split_name
from curate.formats.losses import LossReport
from curate.formats.nearest import NearestImages, images_beside
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, number, sequence, text, whole

_HEAD: Final = 16384
_SIGNS: Final = ("box2d", "poly2d", "timeofday", "videoName", "frameIndex", "box3d", "graph")
_MASK_FOLDERS: Final = frozenset(
    {"masks", "bitmasks", "colormaps", "drivable_maps", "color_labels", "seg_maps", "labels"}
)
_READ: Final = frozenset({"name", "labels", "objects", "videoName", "video_name", "frameIndex", "timestamp", "size"})
_SMALL_SETS: Final = frozenset({"sem_seg", "ins_seg", "pan_seg", "seg"})


def detect(source: Path) -> Detection | None:
    """JSON files whose first frame has BDD100K's or Scalabel's own words."""
    if source.is_file():
        reason = _reason(source) if source.suffix.lower() == ".json" else None
        return Detection(0.9, reason) if reason else None
    files = peek_files(source)
    reasons = [reason for name in files if name.lower().endswith(".json") and (reason := _reason(source / name))]
    return Detection(0.9, f"{len(reasons)} files of BDD100K or Scalabel: {reasons[0]}") if reasons else None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a JSON file, or every one below a folder that is BDD100K's.

    Raises:
        FormatError: There is none, or none can be read.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    files = [source.name] if source.is_file() else list_files(root)
    labels = [name for name in files if name.lower().endswith(".json")]
    if source.is_dir():
        labels = [name for name in labels if _reason(root / name)]
    if not labels:
        remedy = "give the folder above images and labels, or a JSON file"
        raise FormatError("there is no JSON file of BDD100K here", where=source, remedy=remedy)
    if source.is_file() and options.images is None:
        options = replace(options, images=images_beside(root))
    images = NearestImages(root, options, None if source.is_file() else files, keep=_is_photograph)
    reader = _Reader(root, images, Collector(options, losses), losses)
    failed = []
    for name in labels:
        try:
            reader.read_file(name)
        except CurateError as error:
            failed.append(error)
            losses.dropped("annotation files", error.what, name)
    if len(failed) == len(labels):
        raise failed[0]
    if source.is_dir():
        reader.add_other_images()
        masks = [name for name in files if is_image(name) and not _is_photograph(name)]
        if masks:
            reason = "masks as images: the JSON files say the same as outlines or run lengths"
            losses.dropped("files", reason, masks[0], len(masks))
    return reader.records()


def _reason(path: Path) -> str | None:
    """What in a file's beginning says that it is BDD100K's."""
    head = read_head(path, _HEAD)
    if '"name"' not in head or not re.match(r'\s*(\[|\{\s*"(frames|name|config|groups|attributes)")', head):
        return None
    seen = [sign for sign in _SIGNS if f'"{sign}"' in head]
    has_frames = '"labels"' in head or '"objects"' in head or "timeofday" in seen
    if '"rle"' in head and '"counts"' in head and '"annotations"' not in head:
        seen.append("rle")
    if has_frames and seen:
        return f"'{seen[0]}' in {path.name}"
    if '"timestamp"' in head and '"category"' in head and '"bbox"' in head and head.lstrip().startswith("["):
        return f"'name', 'timestamp', 'category' and 'bbox' in {path.name}"
    return None


def _is_photograph(name: str) -> bool:
    return not _MASK_FOLDERS & set(name.split("/")[:-1])


# --------------------------------------------------------------------------------------------------- frames


class _File(msgspec.Struct):
    """The outer object of a file that is not a list; frames stay as they are, so that one at a time becomes objects."""

    frames: list[msgspec.Raw]
    name: Any = None
    attributes: Any = None
    config: Any = None


def _open(path: Path) -> _File:
    """A file's frames, undecoded, and what it says outside them.

    Raises:
        FormatError: It cannot be read, or is no list of frames.
    """
    try:
        # Mapped, since the files of 2018 are of 1.3 GB.
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        top = msgspec.json.decode(data, type=list[msgspec.Raw] | _File)
        return top if isinstance(top, _File) else _File(top)
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}", where=path, remedy="check it") from error
    except (ValueError, RecursionError):
        pass  # not quite JSON, in another encoding, or empty
    tree = read_json(path)
    outer = mapping(tree)
    frames = outer.get("frames") if outer else tree
    if not isinstance(frames, list):
        raise FormatError("there is no list of frames in it", where=path, remedy="give BDD100K's or Scalabel's JSON")
    try:
        said = _clean({name: outer.get(name) for name in ("name", "attributes", "config")})
        return _File([msgspec.Raw(_encode(frame)) for frame in frames], **said)
    except RecursionError as error:
        raise FormatError("nested too deeply", where=path, remedy="check that it is whole") from error


def _encode(tree: Any) -> bytes:
    # A half of a surrogate pair, which JSON can say and UTF-8 cannot, becomes a question mark.
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace")


def _clean(tree: Any) -> Any:
    """A tree with null for NaN and infinity, and texts that can be stored."""
    return json.loads(_encode(tree), parse_constant=lambda _: None)


def _decode(frame: msgspec.Raw, outer: _File) -> dict[str, Any] | None:
    """A frame in today's form: an old one gets its file's name and attributes, a flat one becomes a frame of one label."""
    try:
        content = msgspec.json.decode(frame)
    except (ValueError, RecursionError):
        try:
            content = _clean(json.loads(decode_text(bytes(frame))))
        except (ValueError, RecursionError):
            return None
    if not isinstance(content, dict):
        return None
    if "bbox" in content and "category" in content:
        return _from_flat(content)
    if not text(content.get("name")):
        content["name"] = outer.name
        content.setdefault("attributes", outer.attributes)
    return content if text(content.get("name")) else None


def _from_flat(content: dict[str, Any]) -> dict[str, Any] | None:
    corners = sequence(content.pop("bbox"))
    box = dict(zip(("x1", "y1", "x2", "y2"), corners, strict=False))
    label = {"category": content.pop("category"), "score": content.pop("score", None), "box2d": box}
    return {**content, "labels": [label]} if text(content.get("name")) else None


# --------------------------------------------------------------------------------------------------- reading


@dataclass
class _Reader:
    """Adds files to a collector, one after another."""

    root: Path
    images: NearestImages
    collector: Collector
    losses: LossReport
    taken: set[str] = field(default_factory=set)
    accounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    classes: list[list[ClassInfo]] = field(default_factory=list)
    configs: dict[str, Any] = field(default_factory=dict)
    posed: set[str] = field(default_factory=set)

    def read_file(self, name: str) -> None:
        """Add what a file holds.

        Raises:
            FormatError: It cannot be read.
        """
        file = _open(self.root / name)
        config = mapping(file.config)
        if config and is_shallow(config):
            self.configs[name] = config
            self.classes.append(list(_categories(config.get("categories"))))
        stated = mapping(config.get("imageSize"))
        for number_, raw in enumerate(file.frames, 1):
            place = f"{name}: frame {number_}"
            frame = _decode(raw, file)
            if frame is None:
                self.losses.dropped("frames", "not a frame with a name", place)
            else:
                self._read_frame(frame, stated, name, place)

    def _read_frame(self, frame: dict[str, Any], stated: dict[str, Any], file: str, place: str) -> None:
        size = mapping(frame.get("size")) or stated
        width, height = whole(size.get("width")), whole(size.get("height"))
        video = text(frame.get("videoName")) or text(frame.get("video_name")) or None
        index = number(frame.get("frameIndex", frame.get("index")))
        index = index if index is not None and abs(index) < 2**62 and index.is_integer() else None
        time = number(frame.get("timestamp"))
        location, path = self._place(text(frame["name"]), video, file)
        self.taken.add(location)
        metadata = {key: value for key, value in frame.items() if key not in _READ and value not in (None, "")}
        if not is_shallow(metadata):
            self.losses.dropped("image metadata", "nested too deeply", place)
            metadata = {}
        image = self.collector.image(
            location,
            path,
            size=(width, height) if width and height else None,
            split=_split(location) or _split(file),
            group=video,
            frame=None if index is None else int(index),
            timestamp=None if time is None or not math.isfinite(time) else time / 1000,
            metadata=mapping(metadata.pop("attributes", None)) | metadata,
            source=file,
        )
        self.accounts[location, file] += 1
        salt = f"{file}\0{self.accounts[location, file]}"
        ids: set[str] = set()
        is_track = video is not None and index is not None
        labels = sequence(frame.get("labels")) or sequence(frame.get("objects"))
        for number_, content in enumerate(labels, 1):
            at = f"{place}: label {number_}"
            label = read_label(mapping(content), at, self.losses)
            if label is not None:
                self._add(image, label, is_track, ids, salt, file, at)

    def _add(self, image: int, label: Label, is_track: bool, ids: set[str], salt: str, file: str, place: str) -> None:
        attributes = label.attributes
        if is_track and label.source_id is not None:
            attributes = {**attributes, "track_id": label.source_id}
        is_known = label.source_id is not None and label.source_id not in ids
        if label.source_id is not None:
            ids.add(label.source_id)
        for part, shape in enumerate(label.shapes):
            if shape.keypoints is not None and label.category is not None:
                self.posed.add(label.category)
            self.collector.add(
                image,
                label.category,
                shape,
                place=place,
                iscrowd=label.iscrowd,
                score=label.score,
                attributes=attributes,
                key=f"{label.source_id}\0{part}" if is_known else None,
                source_id=label.source_id,
                source=file,
                salt=salt,
            )

    def _place(self, name: str, video: str | None, file: str) -> tuple[str, Path | None]:
        """Location and file of a frame's image; names of videos tell frames of equal names apart, as do folders."""
        inner = safe_location(name) or "_"
        stem = PurePosixPath(inner).stem if is_image(inner) else PurePosixPath(inner).name
        split = _split(file)
        left_out = "100k" if _SMALL_SETS & set(file.split("/")) else None

        def is_good(location: str) -> bool:
            return _split(location) in {split, None} or split is None

        def is_of_video(location: str) -> bool:
            return video in location.split("/")[:-1] and is_good(location)

        location = self.images.find(file, stem, is_good=is_of_video) if video is not None else None
        location = location or self.images.find(
            file, stem, is_good=lambda it: is_good(it) and f"/{left_out}/" not in it
        )
        if location is not None:
            return location, self.images.root / location
        return inner if is_image(inner) else f"{inner}.jpg", None

    def add_other_images(self) -> None:
        """Take the images that no file names."""
        for name in self.images.locations:
            if name not in self.taken:
                self.collector.image(name, self.images.root / name, split=_split(name))

    def records(self) -> Records:
        """Everything that was read."""
        listed = merge_classes(self.classes, self.losses)
        known = {info.name for info in listed}
        listed += [ClassInfo(name) for name in sorted(self.posed - known)]
        classes = [replace(info, keypoints=JOINTS) if info.name in self.posed else info for info in listed]
        info: dict[str, object] = {"scalabel": self.configs} if self.configs else {}
        return self.collector.records(classes, info)


def _categories(content: Any, parent: str | None = None) -> Iterator[ClassInfo]:
    """The classes that a config lists; those that are divided further are supercategories."""
    for entry in map(mapping, sequence(content)):
        name = text(entry.get("name"))
        inner = sequence(entry.get("subcategories"))
        if inner:
            yield from _categories(inner, name or parent)
        elif name:
            yield ClassInfo(name, supercategory=parent)


def _split(location: str) -> str | None:
    """The split that a folder, or a word of a JSON file's name, is of: 'images/100k/val/a.jpg', 'det_val.json'."""
    *folders, name = location.split("/")
    words = re.split(r"[_.-]", name) if name.lower().endswith(".json") else []
    return next((split for word in (*reversed(folders), *reversed(words)) if (split := split_name(word))), None)
