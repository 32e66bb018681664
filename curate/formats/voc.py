"""Pascal VOC: one XML file for each image (Everingham et al. 2010, and the VOC2012 development kit's documentation).

**Pixels.** The development kit counts pixels from 1 and includes both corners: a box covers xmin - 1 to xmax in the
coordinates used here. Nearly every tool that writes VOC since (labelImg, CVAT, Roboflow, Datumaro) writes corners as they
are in continuous coordinates, from 0: a box covers xmin to xmax. So the file decides: where its ``<database>`` is the
challenge's own ('The VOC2007 Database', 'The PASCAL Visual Object Classes ...'), the kit's rule holds, else the tools'.
The database's name is kept with the image, and writing applies the same rule, so both kinds go round unchanged.

Layouts: Annotations/ + JPEGImages/ + ImageSets/Main/, XML files beside the images, and Roboflow's train/, valid/, test/.
Rotated boxes (roLabelImg's ``<robndbox>``, in radians) and polygons (Roboflow's ``<polygon>``) are read where they are.
VOC has no ids: an object is known by its image and its place in the file.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.columns import annotations_table, fixed_lists, images_table
from curate.formats.files import (
    Headers,
    is_image,
    list_files,
    peek_files,
    probe,
    read_head,
    read_text,
    reconcile_sizes,
    safe_location,
    split_name,
    split_of,
    stem,
)
from curate.formats.losses import LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.voc_write import PLAIN_FLAGS, counts_from_one, write
from curate.geometry import boxes_around, orient_boxes, orient_points, rotated_box_corners
from curate.names import PREDICTIONS

_IMAGE_FOLDERS: Final = ("JPEGImages", "images", "Images", "jpegimages", "imgs")
_MASK_FOLDERS: Final = frozenset({"SegmentationClass", "SegmentationObject"})
_KNOWN_TAGS: Final = frozenset({"name", "bndbox", "polygon", "robndbox", "attributes", "part", "actions", "confidence"})
_CLASS_LIST: Final = re.compile(r".+_(train|val|trainval|test)$")


@dataclass
class _Objects:
    """What the files hold, in parallel lists with one entry for each object."""

    image: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    bbox: list[list[float]] = field(default_factory=list)
    rotated: list[list[float] | None] = field(default_factory=list)
    polygon: list[list[float] | None] = field(default_factory=list)
    attributes: list[str | None] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)


@dataclass
class _Images:
    """What is known of each image, in parallel lists."""

    location: list[str] = field(default_factory=list)
    path: list[Path | None] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)
    size: list[tuple[int, int]] = field(default_factory=list)
    metadata: list[str | None] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)


def detect(source: Path) -> Detection | None:
    """XML files whose root is <annotation> with VOC's <size>, <segmented> or <bndbox>."""
    if source.is_file():
        return Detection(0.95, "a VOC annotation") if _is_voc(source) else None
    files = peek_files(source)
    xml = [name for name in files if name.lower().endswith(".xml")]
    count = sum(_is_voc(source / name) for name in xml[:50])
    if count == 0:
        return None
    reason = f"{count} VOC annotations in a look at {len(files)} files"
    if any(name.split("/")[0] in {"Annotations", "JPEGImages", "ImageSets"} for name in files):
        return Detection(0.95, f"{reason}; Annotations, JPEGImages or ImageSets")
    # A few stray files among the images do not make it VOC.
    images = sum(map(is_image, files))
    return Detection(0.85 if 2 * len(xml) >= images else 0.5, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of VOC annotations, or one file.

    Raises:
        FormatError: There are none.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    files = [source.name] if source.is_file() else list_files(root)
    known = _Known(root, list_files(root) if source.is_file() else files, options)
    annotations = [name for name in files if name.lower().endswith(".xml")]
    images, objects = _Images(), _Objects()
    read_count = sum(_read_file(name, known, images, objects, losses) for name in annotations)
    if read_count == 0:
        raise FormatError("there is no VOC annotation (<annotation> in an .xml file)", where=source, remedy="check it")
    if source.is_dir():
        _add_images_without_annotations(known, images)
    _report_masks(files, losses)
    headers = probe(images.path, losses)
    given = np.array(images.size, dtype=np.int64).reshape(-1, 2)
    width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, images.location, losses)
    splits = [options.split] * len(images.location) if options.split else _splits(known, images.location, losses)
    if not options.layer.startswith(PREDICTIONS):
        _leave_out_scores(objects, losses)
    classes = [ClassInfo(name) for name in _class_order(root, objects.label)]
    columns = {"split": splits, "source": images.source, "metadata": images.metadata}
    return Records(
        images_table(images.location, images.path, width, height, columns),
        [_annotations(objects, images, headers, raw, options.layer)],
        classes,
    )


class _Voc:
    name = "voc"
    detect = staticmethod(detect)
    read = staticmethod(read)
    write = staticmethod(write)


FORMAT: Format = _Voc()


def _is_voc(path: Path) -> bool:
    head = read_head(path, 2048)
    # LabelMe's XML has the same root, but <imagesize> and no <size>.
    if re.search(r"<annotation[\s>]", head) is None or "<imagesize>" in head:
        return False
    return any(tag in head for tag in ("<size>", "<segmented>", "<bndbox>"))


# --------------------------------------------------------------------------------------------------- images


class _Known:
    """The images there are, and how an annotation finds its own.

    Args:
        root: The dataset's folder.
        files: Every file in it.
        options: `images` is a folder of images that lie elsewhere.
    """

    def __init__(self, root: Path, files: Sequence[str], options: ReadOptions) -> None:
        elsewhere = options.images is not None and not options.images.absolute().is_relative_to(root)
        self.root = options.images.absolute() if elsewhere and options.images else root
        self.files = files
        self.folder = root
        found = list_files(self.root) if elsewhere else files
        self.images = [name for name in found if is_image(name) and not _MASK_FOLDERS & set(name.split("/")[:-1])]
        self._names = frozenset(self.images)
        self._by_stem: dict[str, str] = {}
        self._by_place: dict[str, list[str]] = {}
        for name in self.images:
            self._by_stem.setdefault(stem(name), name)
            for key in {PurePosixPath(name).stem, PurePosixPath(name).name}:
                self._by_place.setdefault(key, []).append(name)

    def find(self, annotation: str, filename: str) -> str | None:
        """The image of an annotation file: its own name first, then the file name inside (often stale)."""
        own = stem(annotation)
        folders, _, name = own.rpartition("/")
        inner = folders.partition("/")[2]
        outer = folders.rpartition("/")[0]
        places = [folders, *(_join(folder, inner) for folder in _IMAGE_FOLDERS)]
        places += [_join(outer, folder) for folder in _IMAGE_FOLDERS] + [""]
        for place in places:
            found = self._by_stem.get(_join(place, name))
            if found is not None:
                return found
        for place in places:
            if filename and _join(place, filename) in self._names:
                return _join(place, filename)
        for key in (name, PurePosixPath(filename).name):
            candidates = self._by_place.get(key, [])
            if len(candidates) == 1:
                return candidates[0]
        return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _add_images_without_annotations(known: _Known, images: _Images) -> None:
    for name in known.images:
        if name not in images.taken:
            images.location.append(name)
            images.path.append(known.root / name)
            images.source.append(None)
            images.size.append((0, 0))
            images.metadata.append(None)


def _splits(known: _Known, locations: Sequence[str], losses: LossReport) -> list[str | None]:
    """From ImageSets/Main (else another set), or the folders' names."""
    lists = [name for name in known.files if name.endswith(".txt") and "ImageSets/" in name]
    chosen = next(
        (
            group
            for folder in ("Main", "Segmentation", "Layout", "Action", "")
            if (group := [name for name in lists if f"ImageSets/{folder}/".replace("//", "/") in name])
        ),
        [],
    )
    split_by_name: dict[str, str] = {}
    # An image in train and in trainval is in train.
    for name in sorted(chosen, key=lambda name: name.endswith("/trainval.txt")):
        file = PurePosixPath(name).stem
        if _CLASS_LIST.match(file) or file == "default":  # CVAT's name for no subset
            continue
        split = split_name(file) or file
        for number, line in enumerate(read_text(known.folder / name).splitlines(), 1):
            image = re.sub(r"\s+-?[01]$", "", line.strip()).strip('"')
            if image and split_by_name.setdefault(image, split) != split and split != "trainval":
                losses.converted("images", "in several splits; the first is kept", f"{name}:{number}")
    return [_listed_split(location, split_by_name) or split_of(location) for location in locations]


def _listed_split(location: str, split_by_name: Mapping[str, str]) -> str | None:
    """An image's split in a list that may name it with or without its folder and ending."""
    place = stem(location)
    inner = place.partition("/")[2]
    for name in (inner, place, PurePosixPath(place).name, PurePosixPath(location).name):
        if name and name in split_by_name:
            return split_by_name[name]
    return None


def _class_order(root: Path, labels: Sequence[str]) -> list[str]:
    """CVAT's labelmap.txt gives an order; else the names are sorted."""
    order: list[str] = []
    if (root / "labelmap.txt").is_file():
        lines = [line.partition(":")[0].strip() for line in read_text(root / "labelmap.txt").splitlines()]
        order = [name for name in lines if name and not name.startswith("#") and name != "background"]
    return list(dict.fromkeys([*order, *sorted(set(labels))]))


def _report_masks(files: Sequence[str], losses: LossReport) -> None:
    masks = [name for name in files if "SegmentationObject" in name.split("/")[:-1]]
    masks = masks or [name for name in files if "SegmentationClass" in name.split("/")[:-1]]
    if masks:
        losses.dropped("masks", "segmentation images are not read yet", masks[0], len(masks))


# --------------------------------------------------------------------------------------------------- one file


def _read_file(name: str, known: _Known, images: _Images, objects: _Objects, losses: LossReport) -> bool:
    """Add what one file holds; False if it is not a VOC annotation."""
    path = known.folder / name
    try:
        tree = fromstring(path.read_bytes(), forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError, OSError) as error:
        losses.dropped("annotation files", "not valid XML", f"{name}: {error}")
        return False
    if tree.tag != "annotation" or tree.find("imagesize") is not None:
        losses.dropped("annotation files", "not a VOC annotation", name)
        return False
    location, image_path = _place(name, safe_location(tree.findtext("filename") or ""), known, images, losses)
    if location in images.taken:
        losses.dropped("annotation files", "another file describes the same image", name)
        return True
    database = tree.findtext("source/database") or ""
    images.taken.add(location)
    images.location.append(location)
    images.path.append(image_path)
    images.source.append(name)
    images.size.append((_whole(tree.findtext("size/width")), _whole(tree.findtext("size/height"))))
    images.metadata.append(_metadata(tree, database))
    row = len(images.location) - 1
    for number, element in enumerate(tree.findall("object"), 1):
        _read_object(element, row, number, counts_from_one(database), f"{name}: object {number}", objects, losses)
    return True


def _place(name: str, filename: str, known: _Known, images: _Images, losses: LossReport) -> tuple[str, Path | None]:
    """Location and path of the image that an annotation file belongs to."""
    location = known.find(name, filename)
    if location is not None:
        return location, known.root / location
    in_kit = "Annotations" in name.split("/")
    folder = "JPEGImages" if in_kit else name.rpartition("/")[0]
    location = _join(folder, filename)
    if not filename or location in images.taken:
        location = _join(folder, PurePosixPath(name).stem + (PurePosixPath(filename).suffix or ".jpg"))
    losses.converted("images", "not there; kept without a file", f"{name}: {location}")
    return location, None


def _metadata(tree: Element, database: str) -> str | None:
    said: dict[str, Any] = {}
    if database not in {"", "Unknown"}:
        said["database"] = database
    if tree.get("verified") == "yes":
        said["verified"] = True
    return json.dumps({"voc": said}, ensure_ascii=False) if said else None


def _read_object(
    element: Element, image: int, number: int, from_one: bool, place: str, objects: _Objects, losses: LossReport
) -> None:
    label = (element.findtext("name") or "").strip()
    if not label:
        losses.dropped("annotations", "without a name", place)
        return
    rotated, polygon = _rotated_box(element.find("robndbox")), _polygon(element.find("polygon"))
    box = _corners(element.find("bndbox"), from_one)
    if box is None and rotated is not None:
        box = boxes_around(rotated_box_corners([rotated]).reshape(-1, 2), [0])[0].tolist()
    if box is None and polygon is not None:
        box = boxes_around(np.reshape(polygon, (-1, 2)), [0])[0].tolist()
    if box is None:
        losses.dropped("annotations", "without four numbers for a box", place)
        return
    attributes = _attributes(element, from_one)
    score = _number(element.findtext("confidence"))
    objects.image.append(image)
    objects.number.append(number)
    objects.label.append(label)
    objects.bbox.append(box)
    objects.rotated.append(rotated)
    objects.polygon.append(polygon)
    objects.attributes.append(json.dumps(attributes, ensure_ascii=False) if attributes else None)
    objects.score.append(score)


def _corners(element: Element | None, from_one: bool) -> list[float] | None:
    """<bndbox> as [x, y, width, height]; see the top of the file."""
    if element is None:
        return None
    left, top, right, bottom = (_number(element.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if left is None or top is None or right is None or bottom is None:
        return None
    shift = 1.0 if from_one else 0.0
    return [left - shift, top - shift, right - left + shift, bottom - top + shift]


def _rotated_box(element: Element | None) -> list[float] | None:
    """roLabelImg's <robndbox>; its angle is in radians, clockwise."""
    if element is None:
        return None
    values = [_number(element.findtext(tag)) for tag in ("cx", "cy", "w", "h", "angle")]
    known = [value for value in values if value is not None]
    return [*known[:4], float(np.rad2deg(known[4]))] if len(known) == 5 else None


def _polygon(element: Element | None) -> list[float] | None:
    """Roboflow's <x1>, <y1>, <x2> ... or <pt> elements with <x> and <y>; None with fewer than three points."""
    if element is None:
        return None
    points = [(point.findtext("x"), point.findtext("y")) for point in element.findall("pt")]
    number = 1
    while not element.findall("pt") and element.find(f"x{number}") is not None:
        points.append((element.findtext(f"x{number}"), element.findtext(f"y{number}")))
        number += 1
    values = [_number(text) for point in points for text in point]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) >= 6 else None


def _attributes(element: Element, from_one: bool) -> dict[str, Any]:
    """Everything else that an object says: flags, pose, CVAT's attributes, parts and actions."""
    found: dict[str, Any] = {}
    for child in element:
        text = (child.text or "").strip()
        if child.tag in PLAIN_FLAGS:
            found[child.tag] = text in {"1", "true", "True"}
        elif child.tag not in _KNOWN_TAGS and len(child) == 0 and text and text != "Unspecified":
            found[child.tag] = text
    for attribute in element.findall("attributes/attribute"):
        name = (attribute.findtext("name") or "").strip()
        if name:
            found[name] = _scalar((attribute.findtext("value") or "").strip())
    parts = [(part.findtext("name") or "", _corners(part.find("bndbox"), from_one)) for part in element.findall("part")]
    if parts:
        found["parts"] = [{"name": name, "bbox": box} for name, box in parts]
    actions = element.find("actions")
    if actions is not None:
        found["actions"] = {action.tag: (action.text or "").strip() == "1" for action in actions}
    return found


def _scalar(text: str) -> Any:
    """A value as JSON where it is a number, true or false; else the text."""
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, bool | int) or (isinstance(value, float) and np.isfinite(value)):
            return value
    return text


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _whole(text: str | None) -> int:
    value = _number(text)
    return int(value) if value is not None and 0 < value < 2**31 else 0


# --------------------------------------------------------------------------------------------------- annotations


def _annotations(
    objects: _Objects, images: _Images, headers: Headers, raw: npt.NDArray[np.bool_], layer: str
) -> pa.Table:
    count = len(objects.image)
    image = np.array(objects.image, dtype=np.int64)
    rows = np.flatnonzero(raw[image])
    bbox = np.array(objects.bbox, dtype=np.float64).reshape(-1, 4)
    if len(rows):
        orientation, width, height = _stored(headers, image[rows])
        bbox[rows] = orient_boxes(bbox[rows], orientation, width, height)
        for row in rows:
            _orient_shapes(objects, int(row), headers)
    rotated = np.array([value or [0.0] * 5 for value in objects.rotated], dtype=np.float64).reshape(-1, 5)
    no_rotation = np.array([value is None for value in objects.rotated], dtype=np.bool_)
    no_polygon = np.array([value is None for value in objects.polygon], dtype=np.bool_)
    hashes = hash_texts(images.location)
    at = pa.array(image)
    return annotations_table(
        count,
        {
            "annotation_id": annotation_ids(hashes[image], layer, "", keys=np.array(objects.number, dtype=np.uint64)),
            "image_id": image_ids(images.location).take(at),
            "layer": layer,
            "type": np.select([~no_polygon, ~no_rotation], ["polygon", "rotated_box"], "box"),
            "label": objects.label,
            "bbox": fixed_lists(bbox),
            "rotated_box": fixed_lists(rotated, no_rotation),
            "polygons": [None if value is None else [value] for value in objects.polygon],
            "score": objects.score,
            "attributes": objects.attributes,
            "source": pa.array(images.source, pa.string()).take(at),
        },
    )


def _leave_out_scores(objects: _Objects, losses: LossReport) -> None:
    count = sum(score is not None for score in objects.score)
    reason = "confidences have no place in ground truth; import into predictions/NAME to keep them"
    losses.dropped("scores", reason, "<confidence>", count)
    objects.score = [None] * len(objects.score)


def _stored(headers: Headers, image: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Orientation, and the width and height as stored (the other way round where it turns the image)."""
    orientation, width, height = headers.orientation[image], headers.width[image], headers.height[image]
    turns = orientation >= 5
    return orientation, np.where(turns, height, width), np.where(turns, width, height)


def _orient_shapes(objects: _Objects, row: int, headers: Headers) -> None:
    orientation, width, height = _stored(headers, np.array([objects.image[row]]))
    polygon, rotated = objects.polygon[row], objects.rotated[row]
    if polygon is not None:
        points = np.reshape(polygon, (-1, 2))
        objects.polygon[row] = orient_points(points, orientation[0], width[0], height[0]).ravel().tolist()
    if rotated is not None:
        corners = orient_points(rotated_box_corners([rotated])[0], orientation[0], width[0], height[0])
        objects.rotated[row] = corners_to_rotated_boxes(corners.reshape(1, 8))[0][0].tolist()
