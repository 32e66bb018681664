"""LabelMe's XML: one file for each image (Russell et al. 2008, "LabelMe: a database and web-based tool"; MIT).

Not to be confused with LabelMe's JSON of another author. Files lie in ``Annotations/<folder>/`` with the images in
``Images/<folder>/`` and masks in ``Masks/<folder>/``, or all of it beside the images, as CVAT and Datumaro export it.

An ``<object>`` is a polygon; a box where its ``<type>`` is 'bounding_box', turned by CVAT's attribute 'rotation' (degrees
clockwise) if it has one; or a mask, an image whose pixels that are not black belong to it. Polygons of one or two points,
which LabelMe's tool can draw, are a keypoint and a polyline. Objects marked as deleted are left out and reported.

``<attributes>`` is free text: what is of the form 'name=value' becomes an attribute of its own, the rest stays one text.
``<id>`` is kept, and ``<parts>`` refers to it.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element

from curate.errors import FormatError, ImageError
from curate.formats.annotation_files import find_annotation_files, read_each
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import is_image, peek_files, read_head
from curate.formats.labelme.masks import foreground
from curate.formats.locations import safe_location, split_of
from curate.formats.losses import LossReport
from curate.formats.references import References
from curate.formats.shape_columns import Shape
from curate.formats.trees import read_xml
from curate.formats.values import whole
from curate.geometry import encode_rle

_KNOWN_TAGS: Final = frozenset(
    {"name", "deleted", "verified", "occluded", "id", "type", "attributes", "parts", "polygon", "segm"}
)
_IMAGE_TAGS: Final = frozenset({"filename", "folder", "source", "imagesize", "object"})
_PICTURE_FOLDERS: Final = frozenset({"Masks", "Scribbles"})
_DIGITS: Final = re.compile(r"\d{1,18}")
_LOOKED_AT: Final = 30


def detect(source: Path) -> Detection | None:
    """XML files whose root is <annotation> with LabelMe's <imagesize>, <sourceAnnotation> or <polygon><pt>."""
    if source.is_file():
        return Detection(0.95, "a LabelMe XML annotation") if _is_labelme(source) else None
    files = peek_files(source)
    names = [name for name in files if name.lower().endswith(".xml")][:_LOOKED_AT]
    count = sum(_is_labelme(source / name) for name in names)
    if count == 0:
        return None
    images = sum(is_image(name) and not _PICTURE_FOLDERS & set(name.split("/")) for name in files)
    reason = f"{count} LabelMe XML annotations in a look at {len(files)} files"
    return Detection(0.95 if 2 * count >= min(len(names), images) else 0.5, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of LabelMe's XML files, or one file.

    Raises:
        FormatError: There are none.
    """
    root, names = find_annotation_files(source, ".xml")
    reader = _Reader(root, options, losses)
    wanted = "LabelMe annotation (<annotation> in an .xml file)"
    for name, tree in read_each(root, names, _load, losses, wanted=wanted):
        reader.add(name, tree)
    if source.is_dir():
        for location, path in reader.references.others(reader.taken):
            if not _PICTURE_FOLDERS & set(location.split("/")[:-1]):
                reader.collector.image(location, path, split=split_of(location))
    return reader.collector.records()


FORMAT = Format("labelme_xml", detect, read)


class _Reader:
    """What is gathered from one file after another."""

    def __init__(self, root: Path, options: ReadOptions, losses: LossReport) -> None:
        self.root = root
        self.losses = losses
        self.references = References(root, options)
        self.collector = Collector(options, losses)
        self.taken: set[str] = set()

    def add(self, name: str, tree: Element) -> None:
        """Take a file's content in."""
        location, path = self._place(tree, name)
        if location in self.taken:
            self.losses.converted("annotation files", "another file describes the same image: both are kept", name)
        self.taken.add(location)
        size = (_whole(tree.findtext("imagesize/ncols")), _whole(tree.findtext("imagesize/nrows")))
        split, metadata = split_of(location), _image_metadata(tree)
        image = self.collector.image(location, path, size=size, split=split, metadata=metadata, source=name)
        ids = Counter(_text(element, "id") for element in tree.findall("object"))
        for number, element in enumerate(tree.findall("object"), 1):
            self._read_object(element, number, image, ids, name)

    def _place(self, tree: Element, name: str) -> tuple[str, Path | None]:
        filename, folder = _text(tree, "filename"), _text(tree, "folder")
        own = name.rpartition("/")[2][:-4]
        *above, _ = name.split("/")
        if "Annotations" not in above:
            return self.references.place(name, filename, own)
        # From Annotations/a/b/x.xml to Images/a/b/x.jpg.
        at = above.index("Annotations")
        inner = "/".join([*above[:at], "Images", *above[at + 1 :]])
        up = "../" * len(above)
        named = [f"{up}{inner}/{filename}", f"{up}{inner}/{own}", f"{folder}/{filename}"] if filename else []
        return self.references.place(name, *named, f"{up}{inner}/{own}")

    def _read_object(self, element: Element, number: int, image: int, ids: Counter[str], name: str) -> None:
        place = f"{name}: object {number}"
        own_id = _text(element, "id")
        if _text(element, "deleted") == "1":
            self.losses.dropped("annotations", "marked as deleted", place)
            return
        attributes = _attributes(element)
        shape = self._shape(element, attributes, name, place)
        if shape is not None:
            self.collector.add(
                image,
                _text(element, "name") or None,
                shape,
                place=place,
                attributes=attributes,
                key=f"id {own_id}" if own_id and ids[own_id] == 1 else number,
                source_id=own_id or None,
                source=name,
                salt=name,
            )

    def _shape(self, element: Element, attributes: dict[str, Any], name: str, place: str) -> Shape | None:
        mask = element.find("segm")
        if mask is not None:
            return self._mask(mask, attributes, name, place)
        polygon = element.find("polygon")
        if polygon is None:
            self.losses.dropped("annotations", "without a polygon or a mask", place)
            return None
        _add_text(attributes, "username", polygon)
        sides = [_number(point.findtext(axis)) for point in polygon.findall("pt") for axis in ("x", "y")]
        known = [side for side in sides if side is not None]
        if len(known) != len(sides) or not sides:
            self.losses.dropped("annotations", "points that are not pairs of numbers", place)
            return None
        if _text(element, "type") == "bounding_box":
            return _box(known, attributes)
        if len(known) == 2:
            return Shape(keypoints=[*known, 2.0])
        return Shape(polygons=[known], is_open=len(known) == 4)

    def _mask(self, element: Element, attributes: dict[str, Any], name: str, place: str) -> Shape | None:
        """The mask's image, else the box around it."""
        _add_text(attributes, "username", element)
        scribbles = [text for each in element.iter("scribble_name") if (text := (each.text or "").strip())]
        if scribbles:
            attributes["scribbles"] = scribbles
        file = self._mask_file(_text(element, "mask"), name)
        try:
            if file is None:
                raise ImageError("the file is not there")
            pixels = foreground(file)
            if pixels.size:
                return Shape(rle=(encode_rle(pixels), [*pixels.shape]))
            raise ImageError("the image has no pixels")
        except ImageError as error:
            box = element.find("box")
            corners = (
                [_number(box.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax")] if box is not None else []
            )
            left, top, right, bottom = corners or [None] * 4
            if left is None or top is None or right is None or bottom is None:
                self.losses.dropped("annotations", f"without box, and the mask cannot be read: {error.what}", place)
                return None
            reason = f"the mask cannot be read, its box is kept: {error.what}"
            self.losses.converted("annotations", reason, place)
            # Its corners are pixels inside the mask.
            return Shape(bbox=[left, top, right - left + 1, bottom - top + 1])

    def _mask_file(self, mask: str, name: str) -> Path | None:
        """In Masks/ where the annotation is in Annotations/, or in Masks/ beside it."""
        *above, _ = name.split("/")
        inner = safe_location(mask)
        moved = ["Masks" if folder == "Annotations" else folder for folder in above]
        for folders in (moved, [*above, "Masks"], above):
            path = self.root.joinpath(*folders, inner)
            with contextlib.suppress(OSError):
                if inner and path.is_file():
                    return path
        return None


# ---------------------------------------------------------------------------------------------------------------- pieces


def _load(path: Path) -> Element:
    tree = read_xml(path)
    if tree.tag != "annotation" or tree.find("size") is not None:
        raise FormatError("not a LabelMe annotation", where=path, remedy="check it")
    return tree


def _box(sides: list[float], attributes: dict[str, Any]) -> Shape:
    if not all(map(math.isfinite, sides)):
        return Shape(bbox=[math.nan] * 4)  # which is dropped; the least of NaN and a number may be the number
    across, down = sides[::2], sides[1::2]
    left, top, width, height = min(across), min(down), max(across) - min(across), max(down) - min(down)
    degrees = attributes.get("rotation")
    if isinstance(degrees, bool) or not isinstance(degrees, int | float) or degrees == 0:
        return Shape(bbox=[left, top, width, height])
    del attributes["rotation"]
    return Shape(rotated_box=[left + width / 2, top + height / 2, width, height, float(degrees)])


def _attributes(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for child in element:
        if child.tag not in _KNOWN_TAGS and len(child) == 0 and (child.text or "").strip():
            found[child.tag] = (child.text or "").strip()
    if (verified := _text(element, "verified")) in {"0", "1"}:
        found["verified"] = verified == "1"
    if (occluded := _text(element, "occluded").lower()) in {"yes", "no"}:
        found["occluded"] = occluded == "yes"
    for tag, name in (("hasparts", "has_parts"), ("ispartof", "part_of")):
        parts = _text(element, f"parts/{tag}")
        if parts:
            found[name] = [part.strip() for part in parts.split(",")] if tag == "hasparts" else parts
    texts = []
    for part in _text(element, "attributes").split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip():
            found[key.strip()] = _scalar(value.strip())
        elif part.strip():
            texts.append(part.strip())
    return {**found, "attributes": ", ".join(texts)} if texts else found


def _image_metadata(tree: Element) -> dict[str, Any]:
    said = {tag: _text(tree, f"source/{tag}") for tag in ("sourceImage", "sourceAnnotation")}
    said["folder"] = _text(tree, "folder")
    said |= {child.tag: (child.text or "").strip() for child in tree if child.tag not in _IMAGE_TAGS and not len(child)}
    known = {key: value for key, value in said.items() if value}
    return {"labelme_xml": known} if known else {}


def _add_text(found: dict[str, Any], tag: str, element: Element) -> None:
    if text := _text(element, tag):
        found[tag] = text


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str | None) -> int:
    return whole(_number(text))


def _scalar(text: str) -> Any:
    """A value as JSON where it is a number, true or false; else the text."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if _DIGITS.fullmatch(text):
        return json.loads(text) if not text.startswith("0") or text == "0" else text
    value = _number(text)
    return text if value is None else value


def _is_labelme(path: Path) -> bool:
    head = read_head(path)
    if re.search(r"<annotation[\s>]", head) is None or re.search(r"<(size|bndbox|segmented)>", head):
        return False
    return any(tag in head for tag in ("<imagesize>", "<sourceAnnotation>", "<nrows>", "<pt>"))
