"""DOTA, oriented objects in aerial images: one text file for each image (Xia et al. 2018, and the DOTA-v2.0 data page).

    imagesource:GoogleEarth                            header lines, not in every file
    gsd:0.146343590398
    2753 2408 2861 2385 2888 2468 2805 2502 plane 0    four corners in pixels, class, difficulty

The corners run round the object from its head or top left corner, so the angle of the rotated box keeps its heading. Where
they are not those of a rectangle, the outline is kept as a polygon and the smallest rectangle round it as rotated box.

The files are in ``labelTxt`` (mmrotate: ``annfiles``) beside ``images``, in ``train`` and ``val``; Roboflow's export of this
kind adds a data.yaml. Of several versions of an image's labels the newest with corners is read. Files of results, as the
evaluation server takes them, have a class each (``Task1_plane.txt``) and name images without an ending: ``P0006 0.93 x1 y1
... x4 y4``. They go to images that the dataset has already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.dataset.schema import IMAGES
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.columns import Flags, Floats, Ints, annotations_on, fixed_lists, prediction_scores
from curate.formats.files import list_files, peek_files, read_head, read_text
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.nearest import NearestImages
from curate.formats.shape_columns import Shape
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.yolo.config import read_config
from curate.geometry import boxes_around, rotated_box_corners

_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LINE: Final = re.compile(rf"\s*((?:{_NUMBER}\s+){{8}})(\S*[^\W\d_]\S*)(?:\s+(-?\d{{1,9}}))?\s*$")
_HEADER: Final = re.compile(r"\s*(imagesource|gsd)\s*:\s*(.*?)\s*$", re.IGNORECASE)
_RESULTS_NAME: Final = re.compile(r"Task[12]_(.+)\.txt$", re.IGNORECASE)
_RESULT: Final = re.compile(rf"\s*(\S+)\s+({_NUMBER})((?:\s+{_NUMBER}){{4}}|(?:\s+{_NUMBER}){{8}})\s*$")
_LABEL_FOLDERS: Final = ("labeltxt", "annfiles")
_YAML_NAMES: Final = re.compile(r"^\s*names\s*:", re.MULTILINE)
_FARTHEST: Final = 1e9
_TOO_FAR: Final = "coordinates that cannot be pixels"


def detect(source: Path) -> Detection | None:
    """Lines of eight coordinates and a class that is a word, best in a folder called labelTxt."""
    if source.is_file():
        known = source.suffix.lower() == ".txt" and (_is_label_file(source) or _is_results_file(source))
        return Detection(0.9, "lines of eight coordinates and a class, as DOTA's") if known else None
    files = peek_files(source)
    texts = [name for name in files if name.lower().endswith(".txt")]
    results = [name for name in texts[:50] if _is_results_file(source / name)]
    labels = [name for name in texts[:50] if _is_label_file(source / name)]
    if not labels:
        return Detection(0.9, f"{len(results)} files of DOTA results") if results else None
    reason = f"{len(labels)} DOTA label files in a look at {len(files)} files"
    if any(_YAML_NAMES.search(read_head(source / name)) for name in files if name.lower() in {"data.yaml", "data.yml"}):
        return Detection(0.9, f"{reason}; class names in data.yaml, as Roboflow exports it")
    return Detection(0.95 if any(map(_in_label_folder, labels)) else 0.85, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of label files, or one file.

    Raises:
        FormatError: No file has such lines; or results were given, and there is no dataset to add them to.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    every = list_files(root)
    texts = [source.name] if source.is_file() else [name for name in every if name.lower().endswith(".txt")]
    labels = [name for name in texts if _is_label_file(root / name)]
    results = [] if labels else [name for name in texts if _is_results_file(root / name)]
    if results:
        return _read_results(root, results, options, losses)
    empty = [name for name in texts if name not in set(labels) and _in_label_folder(name)]
    if not labels and not empty:
        remedy = "each must have eight coordinates, a class and a difficulty"
        raise FormatError("there are no lines of DOTA labels here", where=source, remedy=remedy)
    images = NearestImages(root, options, every)
    collector = Collector(options, losses)
    taken = _read_labels(root, [*labels, *empty], images, collector, losses)
    if source.is_dir():
        for location in images.locations:
            if location not in taken:
                collector.image(location, images.root / location, split=split_of(location))
    return collector.records(_listed_classes(root, losses))


FORMAT = Format("dota", detect, read)


# --------------------------------------------------------------------------------------------------- labels


def _is_label_file(path: Path) -> bool:
    """Whether the first line that is no header is a label."""
    lines = [line for line in read_head(path).splitlines() if line.strip() and not _HEADER.match(line)]
    return bool(lines) and _LINE.match(lines[0]) is not None


def _in_label_folder(location: str) -> bool:
    return any(folder.lower().startswith(_LABEL_FOLDERS) for folder in location.split("/")[:-1])


def _listed_classes(root: Path, losses: LossReport) -> list[ClassInfo]:
    """The classes that Roboflow's data.yaml lists, in its order."""
    path = root / "data.yaml"
    if not path.is_file():
        return []
    try:
        names = read_config(path).names
    except CurateError as error:
        losses.dropped("files", "the list of classes cannot be read", f"{path.name}: {error.what}")
        return []
    unique = {name: number for number, name in reversed(names.items())}
    return [ClassInfo(name, source_id=number) for name, number in sorted(unique.items(), key=lambda item: item[1])]


def _read_labels(
    root: Path, labels: Iterable[str], images: NearestImages, collector: Collector, losses: LossReport
) -> set[str]:
    """Read every image's best label file; the locations of the images that have one."""
    chosen: dict[str, tuple[str, bool]] = {}
    for name in sorted(labels, key=_version):
        location = images.find(name, PurePosixPath(name).stem)
        key = location or _without_label_folder(name)
        if key in chosen:
            losses.dropped("annotation files", "another version of an image's labels is read", chosen[key][0])
        chosen[key] = (name, location is not None)
    for location, (name, is_there) in sorted(chosen.items()):
        _read_file(root, name, location, images.root / location if is_there else None, collector, losses)
    return set(chosen)


def _version(label: str) -> tuple[bool, float, str]:
    """What puts the best of several versions last: corners after upright boxes, then the newest."""
    upright = "hbb" in label.lower() or "task2" in label.lower()
    versions = [float(text) for text in re.findall(r"v(\d\.\d)", label)]
    return not upright, max(versions, default=0.0), label


def _without_label_folder(label: str) -> str:
    """Where the image of a label file would be: 'train/labelTxt/a.txt' -> 'train/images/a.png'."""
    path = PurePosixPath(label)
    folders = ["images" if folder.lower().startswith(_LABEL_FOLDERS) else folder for folder in path.parts[:-1]]
    return "/".join([*folders, f"{path.stem}.png"])


def _read_file(
    root: Path, name: str, location: str, path: Path | None, collector: Collector, losses: LossReport
) -> None:
    """Add one image and its objects."""
    try:
        lines = read_text(root / name).splitlines()
    except CurateError as error:
        losses.dropped("annotation files", "the file cannot be read", f"{name}: {error.what}")
        lines = []
    said: dict[str, Any] = {}
    objects = _Objects()
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        if match is not None:
            objects.add(number, match)
        elif (header := _HEADER.match(line)) is not None:
            said[header[1].lower()] = header[2]
        elif line.strip():
            losses.dropped("annotations", "malformed line", f"{name}:{number}")
    metadata = {"dota": said} if said else None
    split = split_of(location) or split_of(name)
    image = collector.image(location, path, split=split, metadata=metadata, source=name)
    _add_objects(image, objects, name, collector, losses)


@dataclass
class _Objects:
    """The objects of a file, in parallel lists."""

    number: list[int] = field(default_factory=list)
    corners: list[list[float]] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    difficulty: list[int | None] = field(default_factory=list)

    def add(self, number: int, match: re.Match[str]) -> None:
        """Take a line."""
        self.number.append(number)
        self.corners.append([float(word) for word in match[1].split()])
        self.label.append(match[2])
        self.difficulty.append(None if match[3] is None else int(match[3]))


def _add_objects(image: int, objects: _Objects, name: str, collector: Collector, losses: LossReport) -> None:
    corners = np.array(objects.corners, dtype=np.float64).reshape(-1, 8)
    near = np.abs(corners).max(axis=1, initial=0.0) <= _FARTHEST
    rotated = np.zeros((len(corners), 5))
    is_rectangle = np.zeros(len(corners), dtype=np.bool_)
    rotated[near], is_rectangle[near] = corners_to_rotated_boxes(corners[near])
    for row, number in enumerate(objects.number):
        place = f"{name}:{number}"
        if not near[row]:
            losses.dropped("annotations", _TOO_FAR, place)
            continue
        outline = None
        if not is_rectangle[row]:
            losses.converted(
                "annotations", "corners that are no rectangle: a polygon, with a rotated box round it", place
            )
            outline = [objects.corners[row]]
        collector.add(
            image,
            objects.label[row],
            Shape(rotated_box=rotated[row].tolist(), polygons=outline),
            place=place,
            attributes=_attributes(objects.difficulty[row]),
            key=number,
            source=name,
        )


def _attributes(difficulty: int | None) -> dict[str, Any]:
    """As VOC says it; a number that is neither 0 nor 1 is kept too."""
    if difficulty is None:
        return {}
    return {"difficult": difficulty != 0} | ({} if difficulty in {0, 1} else {"difficulty": difficulty})


# --------------------------------------------------------------------------------------------------- results


def _is_results_file(path: Path) -> bool:
    if _RESULTS_NAME.match(path.name) is None:
        return False
    first = next((line for line in read_head(path).splitlines() if line.strip()), None)
    return first is None or _RESULT.match(first) is not None


@dataclass
class _Results:
    """Lines of results, in parallel lists; corners are NaN where a line has an upright box, and the other way round."""

    image: list[int] = field(default_factory=list)
    file: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    box: list[list[float]] = field(default_factory=list)
    corners: list[list[float]] = field(default_factory=list)


def _read_results(root: Path, files: Sequence[str], options: ReadOptions, losses: LossReport) -> Records:
    known = options.known_images
    if known is None:
        raise FormatError(
            "DOTA results name images that are not in the file",
            where=root / files[0],
            remedy="import the dataset they belong to first, then these with --layer predictions/NAME",
        )
    locations = known["location"].to_pylist()
    rows = {PurePosixPath(location).stem: row for row, location in reversed(list(enumerate(locations)))}
    results = _Results()
    for number, name in enumerate(files):
        _read_result_lines(root / name, number, name, rows, results, losses)
    labels = [match[1] for name in files if (match := _RESULTS_NAME.match(PurePosixPath(name).name))]
    table = _results_table(results, locations, files, labels, options, losses)
    return Records(IMAGES.empty_table(), [table], [ClassInfo(label) for label in sorted(set(labels))])


def _read_result_lines(
    path: Path, file: int, name: str, rows: dict[str, int], results: _Results, losses: LossReport
) -> None:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = _RESULT.match(line)
        if match is None:
            if line.strip():
                losses.dropped("annotations", "malformed line", f"{name}:{number}")
            continue
        values = [float(word) for word in match[3].split()]
        row = rows.get(PurePosixPath(match[1]).stem, rows.get(match[1]))
        if row is None or max(map(abs, [*values, float(match[2])])) > _FARTHEST:
            reason = _TOO_FAR if row is not None else "the dataset has no image of this name"
            losses.dropped("annotations", reason, f"{name}:{number}: {match[1]}")
            continue
        results.image.append(row)
        results.file.append(file)
        results.score.append(float(match[2]))
        results.box.append(values if len(values) == 4 else [np.nan] * 4)
        results.corners.append(values if len(values) == 8 else [np.nan] * 8)


def _results_table(
    results: _Results,
    locations: Sequence[str],
    files: Sequence[str],
    labels: Sequence[str],
    options: ReadOptions,
    losses: LossReport,
) -> pa.Table:
    box: Floats = np.array(results.box, dtype=np.float64).reshape(-1, 4)
    corners: Floats = np.array(results.corners, dtype=np.float64).reshape(-1, 8)
    turned: Flags = np.isnan(box[:, 0])
    box[:, 2:] -= box[:, :2]
    rotated = np.zeros((len(box), 5))
    rotated[turned], _ = corners_to_rotated_boxes(corners[turned])
    around = rotated_box_corners(rotated[turned]).reshape(-1, 2)
    box[turned] = boxes_around(around, np.arange(turned.sum()) * 4)
    file: Ints = np.array(results.file, dtype=np.int64)
    columns = {
        "type": np.where(turned, "rotated_box", "box"),
        "label": pa.array(labels, pa.string()).take(pa.array(file)),
        "bbox": fixed_lists(box),
        "rotated_box": fixed_lists(rotated, ~turned),
        "score": prediction_scores(np.array(results.score, dtype=np.float64), options.layer, files[0], losses),
        "source": pa.array(files, pa.string()).take(pa.array(file)),
    }
    return annotations_on(locations, np.array(results.image, dtype=np.int64), options.layer, columns)
