"""KITTI's benchmarks of street scenes (Geiger et al. 2012; the development kits' readme files).

Object detection: a text file for each image, 15 columns to a line, a 16th with the score in results::

    training/image_2/000001.png   training/label_2/000001.txt
    Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57
    type truncated occluded alpha  left top right bottom  height width length  x y z  rotation_y [score]

Tracking: a file for each sequence, with the frame and the track before these columns, and a folder of images for each
(``image_02/0000/000000.png``, ``label_02/0000.txt``). Segmentation: ``instance/000000_10.png`` with 256 times the class plus
the number of the thing in each pixel, and ``semantic`` with the class alone; both use Cityscapes' classes. Raw: folders of
frames; their 3-D tracklets have no box in the image, and are reported. The same lines in ``labels`` beside ``images`` are
read too.

Corners are pixels counted from 0, taken as continuous coordinates, as the kit's evaluation does. What KITTI says of 3-D is
kept in the attributes without the numbers that stand for 'unknown'. Regions of type DontCare, which hold unlabelled objects
that count neither for nor against, keep their name and are crowd regions, which is how COCO says the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from curate.errors import CurateError, FormatError, ImageError
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.cityscapes.labels import LABELS
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files, read_head, read_text
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.mask_images import fit_to_image, split_labels
from curate.formats.nearest import NearestImages
from curate.formats.shape_columns import Shape
from curate.imaging import load_labels, read_header

_DONT_CARE: Final = "DontCare"
_COLUMNS: Final = 15
_TRACK_COLUMNS: Final = 17
_UNKNOWN: Final = {
    "truncated": -1,
    "occluded": -1,
    "alpha": -10,
    "dimensions": -1,
    "location": -1000,
    "rotation_y": -10,
}
_MASK_FOLDERS: Final = frozenset({"instance", "semantic"})
_DRAWN_FOLDERS: Final = frozenset({"semantic_rgb", "viz_flow_occ"})
_NOT_KEPT: Final = {
    "calib": "camera calibration has no place",
    "velodyne": "point clouds have no place",
    "velodyne_points": "point clouds have no place",
    "oxts": "positions of the car have no place",
    "planes": "ground planes have no place",
}
_CAMERA: Final = re.compile(r"image_?0?(\d)$", re.IGNORECASE)
_LABEL_FOLDER: Final = re.compile(r"label_?0?\d$", re.IGNORECASE)
_TRACKLETS: Final = "tracklet_labels.xml"
_CITYSCAPES: Final = {label.id: label for label in LABELS if label.id >= 0}


def detect(source: Path) -> Detection | None:
    """Lines of KITTI's columns in text files, or its folders of instance masks or tracklets."""
    if source.is_file():
        known = source.suffix.lower() == ".txt" and _is_label_file(source)
        return Detection(0.9, "lines of KITTI's 15 to 18 columns") if known else None
    files = peek_files(source)
    labels = [name for name in files if name.lower().endswith(".txt") and _is_label_file(source / name)]
    if labels:
        own = any(_LABEL_FOLDER.match(folder) for name in labels for folder in name.split("/")[:-1])
        reason = f"{len(labels)} files with KITTI's columns in a look at {len(files)} files"
        return Detection(0.95 if own else 0.85, reason)
    folders = {folder for name in files for folder in name.split("/")[:-1]}
    masks = sorted(folders & _MASK_FOLDERS)
    if masks and any(map(_CAMERA.match, folders)):
        return Detection(0.9, f"KITTI's folders image_2 and {masks[0]}")
    if any(PurePosixPath(name).name == _TRACKLETS for name in files):
        return Detection(0.85, f"KITTI's raw recordings: {_TRACKLETS}")
    return None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of KITTI data, or one label file.

    Raises:
        FormatError: There are neither labels nor masks nor tracklets.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    every = list_files(root)
    files = [source.name] if source.is_file() else every
    labels = [name for name in files if name.lower().endswith(".txt") and _is_readable_label(root, name)]
    masks = [name for name in files if _mask_folder(name) is not None]
    tracklets = [name for name in files if PurePosixPath(name).name == _TRACKLETS]
    if not (labels or masks or tracklets):
        remedy = "give the folder above image_2 and label_2 (or instance)"
        raise FormatError("there is no KITTI annotation here", where=source, remedy=remedy)
    images = NearestImages(root, options, every, keep=_is_photograph)
    reader = _Reader(root, images, Collector(options, losses), losses)
    for name in labels:
        reader.read_labels(name)
    for name in _best_masks(masks):
        reader.read_mask(name)
    for name in tracklets:
        count = read_head(root / name, 1 << 24).count("<objectType>")
        losses.dropped("annotations", "3-D tracklets have no box in the image", name, count)
    if source.is_dir():
        reader.add_other_images()
        _report_others(files, losses)
    classes = [label.info for label in _CITYSCAPES.values()] if masks else []
    return reader.collector.records(classes)


FORMAT = Format("kitti", detect, read)


# --------------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True)
class _Line:
    """One line of a label file; numbers as they are."""

    label: str
    numbers: tuple[float, ...]
    frame: int | None = None
    track: int | None = None


def _parse(line: str) -> _Line | None:
    """A line's columns; None if it is not KITTI's."""
    words = line.split()
    frame = track = None
    if len(words) in {_TRACK_COLUMNS, _TRACK_COLUMNS + 1}:
        frame, track = _whole(words[0]), _whole(words[1])
        if frame is None or track is None:
            return None
        words = words[2:]
    if len(words) not in {_COLUMNS, _COLUMNS + 1} or _float(words[0]) is not None:
        return None
    numbers = [number for word in words[1:] if (number := _float(word)) is not None]
    return _Line(words[0], tuple(numbers), frame, track) if len(numbers) == len(words) - 1 else None


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _whole(word: str) -> int | None:
    number = _float(word)
    return int(number) if number is not None and abs(number) < 2**31 and number == math.floor(number) else None


def _is_label_file(path: Path) -> bool:
    first = next((line for line in read_head(path).splitlines() if line.strip()), "")
    return _parse(first) is not None


def _is_readable_label(root: Path, name: str) -> bool:
    """Whether a text file holds labels; an empty one in their folder does, since nothing may be on an image."""
    if _is_label_file(root / name):
        return True
    folders = name.split("/")[:-1]
    return any(map(_LABEL_FOLDER.match, folders))


def _attributes(line: _Line, losses: LossReport, place: str) -> dict[str, Any]:
    """What a line says beyond type and box, without the numbers that mean 'unknown'."""
    numbers = line.numbers
    said: dict[str, Any] = {
        "truncated": numbers[0],
        "occluded": numbers[1],
        "alpha": numbers[2],
        "dimensions": list(numbers[7:10]),
        "location": list(numbers[10:13]),
        "rotation_y": numbers[13],
    }
    kept = {}
    for name, value in said.items():
        values = value if isinstance(value, list) else [value]
        if not all(map(math.isfinite, values)):
            losses.dropped("attributes", "numbers that are not finite", f"{place}: {name}")
        elif any(each != _UNKNOWN[name] for each in values):
            kept[name] = value
    if kept.get("occluded", 0.5).is_integer():
        kept["occluded"] = int(kept["occluded"])
    if line.track is not None and line.track >= 0:
        kept["track_id"] = line.track
    return kept


# --------------------------------------------------------------------------------------------------- images


def _mask_folder(name: str) -> str | None:
    folder = PurePosixPath(name).parent.name
    return folder if folder in _MASK_FOLDERS and is_image(name) else None


def _is_photograph(name: str) -> bool:
    return not (_DRAWN_FOLDERS | _MASK_FOLDERS) & set(name.split("/")[:-1])


def _camera(name: str) -> str | None:
    """Number of the camera whose folder an image is in."""
    return next((match[1] for folder in reversed(name.split("/")[:-1]) if (match := _CAMERA.match(folder))), None)


def _sequence(location: str) -> tuple[str | None, int | None]:
    """Group and frame of an image of a sequence: 'training/image_02/0003/000017.png' -> ('training/0003', 17)."""
    *folders, name = location.split("/")
    frame = _whole(PurePosixPath(name).stem)
    if frame is None or len(folders) < 2 or not _CAMERA.match(folders[-2]):
        return None, None
    inner = [] if folders[-1] == "data" else [folders[-1]]
    return "/".join([*folders[:-2], *inner]) or None, frame


# --------------------------------------------------------------------------------------------------- reading


@dataclass
class _Reader:
    """Adds files to a collector, one after another."""

    root: Path
    images: NearestImages
    collector: Collector
    losses: LossReport
    taken: set[str] = field(default_factory=set)

    @cached_property
    def sequences(self) -> frozenset[str]:
        """Names of the folders that hold a sequence of frames each."""
        found = (PurePosixPath(name).parent for name in self.images.locations)
        return frozenset(folder.name for folder in found if _CAMERA.match(folder.parent.name))

    def add_image(self, location: str, path: Path | None, source: str | None = None) -> int:
        """Take an image, with its place in a sequence."""
        self.taken.add(location)
        group, frame = _sequence(location)
        split = split_of(location) or (split_of(source) if source else None)
        return self.collector.image(location, path, split=split, group=group, frame=frame, source=source)

    def read_labels(self, name: str) -> None:
        """Add what one label file holds."""
        try:
            lines = read_text(self.root / name).splitlines()
        except CurateError as error:
            self.losses.dropped("annotation files", "the file cannot be read", f"{name}: {error.what}")
            return
        parsed = [(number, _parse(line)) for number, line in enumerate(lines, 1) if line.strip()]
        is_sequence = any(line is not None and line.frame is not None for _, line in parsed)
        if not parsed and PurePosixPath(name).stem in self.sequences:
            return
        image = None if is_sequence else self._image_of(name)
        tracks: set[tuple[int, int]] = set()
        for number, line in parsed:
            place = f"{name}:{number}"
            if line is None or (image is None and line.frame is None):
                self.losses.dropped("annotations", "malformed line", place)
                continue
            on = image if image is not None else self._image_of(name, line.frame)
            key: int | str = number
            if line.track is not None and line.track >= 0 and (on, line.track) not in tracks:
                tracks.add((on, line.track))
                key = f"track {line.track}"
            self._add(on, line, key, place, name)

    def _add(self, image: int, line: _Line, key: int | str, place: str, name: str) -> None:
        left, top, right, bottom = line.numbers[3:7]
        has_track = line.track is not None and line.track >= 0
        score = line.numbers[14] if len(line.numbers) == _COLUMNS else math.nan
        self.collector.add(
            image,
            line.label,
            Shape(bbox=[left, top, right - left, bottom - top]),
            place=place,
            iscrowd=True if line.label == _DONT_CARE else None,
            score=score if math.isfinite(score) else None,
            attributes=_attributes(line, self.losses, place),
            key=key,
            source_id=str(line.track) if has_track else None,
            source=name,
        )

    def _image_of(self, label: str, frame: int | None = None) -> int:
        """The image of a label file, or of a frame of its sequence."""
        camera = next((name[-1] for name in reversed(label.split("/")[:-1]) if _LABEL_FOLDER.match(name)), None)
        place = label
        if frame is not None:
            place = f"{label.removesuffix('.txt')}/{frame:06d}.txt"
        sequence = PurePosixPath(place).parent.name

        def is_good(name: str) -> bool:
            if frame is not None and PurePosixPath(name).parent.name != sequence:
                return False
            return camera is None or _camera(name) in {camera, None}

        location = self.images.find(place, PurePosixPath(place).stem, is_good=is_good)
        if location is not None:
            return self.add_image(location, self.images.root / location, label)
        *folders, name = place.removesuffix(".txt").split("/")
        folders = [re.sub("^label", "image", folder) for folder in folders]
        return self.add_image("/".join([*folders, f"{name}.png"]), None, label)

    def read_mask(self, name: str) -> None:
        """Add the masks of one image of classes or things."""
        location = self.images.find(name, PurePosixPath(name).stem, is_good=lambda image: _camera(image) in {"2", None})
        path = None if location is None else self.images.root / location
        folders = PurePosixPath(name).parent.parent
        image = self.add_image(location or (folders / "image_2" / PurePosixPath(name).name).as_posix(), path, name)
        try:
            values = load_labels(self.root / name).values
            if values.ndim != 2:
                raise ImageError("a mask in color, where numbers are expected", where=name)
            fitted = None if path is None else fit_to_image(values, read_header(path))
            if fitted is None and path is not None:
                self.losses.converted("masks", "of another size than their image, which they keep", name)
            values = values if fitted is None else fitted
            regions = split_labels(values)
        except ImageError as error:
            self.losses.dropped("annotation files", "the mask cannot be read", f"{name}: {error.what}")
            return
        has_things = _mask_folder(name) == "instance"
        for region in regions:
            category, thing = divmod(region.value, 256) if has_things else (region.value, 0)
            if category == 0 and thing == 0:
                continue
            label = _CITYSCAPES.get(category)
            is_crowd = has_things and thing == 0 and label is not None and label.has_instances
            self.collector.add(
                image,
                str(category) if label is None else label.name,
                Shape(rle=(region.counts, values.shape)),
                place=f"{name}: value {region.value}",
                area=region.area,
                iscrowd=True if is_crowd else None,
                attributes={"instance": thing} if thing else None,
                key=f"mask {region.value}",
                source=name,
            )

    def add_other_images(self) -> None:
        """Take the images that nothing names: of the second camera where there is one."""
        others = [name for name in self.images.locations if name not in self.taken]
        if any(_camera(name) == "2" for name in self.images.locations):
            ours = [name for name in others if _camera(name) in {"2", None}]
            left_out = [name for name in others if _camera(name) not in {"2", None}]
            if left_out:
                self.losses.dropped("images", "of the other cameras, which have no labels", left_out[0], len(left_out))
            others = ours
        for name in others:
            self.add_image(name, self.images.root / name)


def _best_masks(masks: Iterable[str]) -> list[str]:
    """Instance masks say the classes too, so they go before semantic ones of the same image."""
    best: dict[tuple[str, str], str] = {}
    for name in sorted(masks, key=lambda name: _mask_folder(name) or ""):
        path = PurePosixPath(name)
        best.setdefault((path.parent.parent.as_posix(), path.stem), name)
    return list(best.values())


def _report_others(files: Sequence[str], losses: LossReport) -> None:
    """Mention what lies beside the images and labels and is not kept."""
    for folder, reason in _NOT_KEPT.items():
        found = [name for name in files if folder in name.split("/")[:-1]]
        if found:
            losses.dropped("files", reason, found[0], len(found))
