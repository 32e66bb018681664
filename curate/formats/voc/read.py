"""Reading VOC: every annotation file of a folder, the masks beside them, and the images that have neither."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from curate.errors import FormatError, ImageError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files, read_head, read_text
from curate.formats.locations import safe_location
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from curate.formats.trees import read_xml
from curate.formats.voc.images import MASK_FOLDERS, KnownImages, join, listed_splits, split_in
from curate.formats.voc.objects import VocObject, number_in, read_object
from curate.formats.voc.segmentation import Mask, Segmentation, SegmentationFiles, key_of, matched
from curate.formats.voc.write import counts_from_one
from curate.imaging import ImageHeader, read_header


def detect(source: Path) -> Detection | None:
    """XML files whose root is <annotation> with VOC's <size>, <segmented> or <bndbox>; or VOC's folders of masks."""
    if source.is_file():
        return Detection(0.95, "a VOC annotation") if _is_voc(source) else None
    files = peek_files(source)
    xml = [name for name in files if name.lower().endswith(".xml")]
    count = sum(_is_voc(source / name) for name in xml[:50])
    folders = {folder for name in files for folder in name.split("/")[:-1]}
    if count == 0:
        kit = sorted(folders & (MASK_FOLDERS | {"JPEGImages", "ImageSets"}))
        return Detection(0.95, f"VOC's folders: {', '.join(kit)}") if folders & MASK_FOLDERS and len(kit) > 1 else None
    reason = f"{count} VOC annotations in a look at {len(files)} files"
    if any(name.split("/")[0] in {"Annotations", "JPEGImages", "ImageSets"} for name in files):
        return Detection(0.95, f"{reason}; Annotations, JPEGImages or ImageSets")
    # A few stray files among the images do not make it VOC.
    images = sum(map(is_image, files))
    return Detection(0.85 if 2 * len(xml) >= images else 0.5, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of VOC annotations and masks, or one annotation file.

    Raises:
        FormatError: There are none.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    files = list_files(root)
    known = KnownImages(root, files, options)
    annotations = [name for name in files if name.lower().endswith(".xml")] if source.is_dir() else [source.name]
    reader = _Reader(
        known,
        SegmentationFiles(root, files, losses),
        {} if options.split else listed_splits(known, losses),
        Collector(options, losses),
        losses,
    )
    read_count = sum(reader.take_file(name) for name in annotations)
    if read_count == 0 and (source.is_file() or not reader.masks.keys):
        raise FormatError("there is no VOC annotation (<annotation> in an .xml file)", where=source, remedy="check it")
    if source.is_dir():
        reader.take_the_rest()
    classes = [ClassInfo(name) for name in _class_order(root, reader.collector.labels)]
    return reader.collector.records(classes)


@dataclass(frozen=True)
class _Reader:
    """Adds what files hold.

    Attributes:
        known: The images there are.
        masks: The segmentation images.
        splits: Of the images that are listed.
        collector: Gets everything.
        losses: What cannot be kept.
        taken: Location of every image so far.
        used: Keys of the segmentation images so far.
    """

    known: KnownImages
    masks: SegmentationFiles
    splits: Mapping[str, str]
    collector: Collector
    losses: LossReport
    taken: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def take_file(self, name: str) -> bool:
        """Add what an annotation file holds; False if it is not a VOC annotation."""
        try:
            tree = read_xml(self.known.folder / name)
        except FormatError as error:
            reason, _, detail = error.what.partition(": ")
            self.losses.dropped("annotation files", reason, f"{name}: {detail}" if detail else name)
            return False
        if tree.tag != "annotation" or tree.find("imagesize") is not None:
            self.losses.dropped("annotation files", "not a VOC annotation", name)
            return False
        location, path = self._place(name, safe_location(tree.findtext("filename") or ""))
        if location in self.taken:
            reason = "another file describes the same image"
            self.losses.dropped("annotation files", reason, name)
            self.losses.dropped("annotations", reason, name, len(tree.findall("object")))
            return True
        size = (_whole(tree.findtext("size/width")), _whole(tree.findtext("size/height")))
        masks = self._masks(key_of(name), path, size) or self._masks(key_of(location), path, size)
        image = self._take_image(location, path, masks, size=size, source=name, said=_said(tree))
        from_one = counts_from_one(tree.findtext("source/database") or "")
        objects = [read_object(element, from_one) for element in tree.findall("object")]
        self._take_objects(image, name, objects, masks)
        return True

    def take_the_rest(self) -> None:
        """Add the images that no annotation file describes, and the masks of images that are not there."""
        for location in self.known.images:
            if location not in self.taken:
                path = self.known.root / location
                masks = self._masks(key_of(location), path, (0, 0))
                image = self._take_image(location, path, masks)
                self._take_objects(image, location, [], masks)
        for key in self.masks.keys:
            masks = self._masks(key, None, (0, 0))
            if masks is not None:
                folder, _, name = key.rpartition("/")
                location = join(folder, f"JPEGImages/{name}.jpg")
                image = self._take_image(location, None, masks, size=masks.size[::-1])
                self._take_objects(image, location, [], masks)

    def _place(self, name: str, filename: str) -> tuple[str, Path | None]:
        """Location and path of the image that an annotation file belongs to."""
        location = self.known.find(name, filename)
        if location is not None:
            return location, self.known.root / location
        in_kit = "Annotations" in name.split("/")
        folder = "JPEGImages" if in_kit else name.rpartition("/")[0]
        location = join(folder, filename)
        if not filename or location in self.taken:
            location = join(folder, PurePosixPath(name).stem + (PurePosixPath(filename).suffix or ".jpg"))
        return location, None

    def _masks(self, key: str, path: Path | None, size: tuple[int, int]) -> Segmentation | None:
        """What the segmentation images show of an image, seen as its annotation file sees it."""
        if key in self.used or not self.masks.has(key):
            return None
        self.used.add(key)
        header = None if path is None else _header(path)
        as_stored = header is not None and size == header.stored_size != (header.width, header.height)
        return self.masks.read(key, header, as_stored=as_stored)

    def _take_image(
        self,
        location: str,
        path: Path | None,
        masks: Segmentation | None,
        *,
        size: tuple[int, int] | None = None,
        source: str | None = None,
        said: Mapping[str, Any] | None = None,
    ) -> int:
        self.taken.add(location)
        metadata = dict(said or {})
        if masks is not None and masks.void is not None:
            metadata["void"] = masks.void
        return self.collector.image(
            location,
            path,
            size=size,
            split=split_in(self.splits, location),
            metadata={"voc": metadata} if metadata else None,
            source=source,
        )

    def _take_objects(
        self, image: int, name: str, objects: Sequence[VocObject | str], masks: Segmentation | None
    ) -> None:
        things = masks.objects if masks else ()
        size = masks.size if masks else (0, 0)
        of_object = matched(objects, things, size)
        for number, found in enumerate(objects, 1):
            place = f"{name}: object {number}"
            if isinstance(found, str):
                self.losses.dropped("annotations", found, place)
                continue
            mask = of_object.get(number)
            self.collector.add(
                image,
                found.label,
                found.shape if mask is None else replace(found.shape, rle=(mask.region.counts, size)),
                place=place,
                area=None if mask is None else float(mask.region.area),
                score=found.score,
                attributes=found.attributes,
                key=number,
                source=name,
            )
        if masks is None:
            return
        alone = [mask for mask in things if mask.number not in of_object]
        if objects:
            for mask in alone:
                reason = "not those of the objects in the XML file: annotations of their own"
                self.losses.converted("masks", reason, f"{mask.source}: {mask.number}")
        for mask in (*alone, *masks.classes):
            self._take_mask(image, mask, size)

    def _take_mask(self, image: int, mask: Mask, size: tuple[int, int]) -> None:
        self.collector.add(
            image,
            mask.label,
            Shape(rle=(mask.region.counts, size)),
            place=f"{mask.source}: {mask.number}",
            area=float(mask.region.area),
            key=f"mask {mask.number}",
            source=mask.source,
        )


def _header(path: Path) -> ImageHeader | None:
    try:
        return read_header(path)
    except ImageError:
        return None  # reported when all images are measured


def _is_voc(path: Path) -> bool:
    head = read_head(path, 2048)
    # LabelMe's XML has the same root, but <imagesize> and no <size>.
    if re.search(r"<annotation[\s>]", head) is None or "<imagesize>" in head:
        return False
    return any(tag in head for tag in ("<size>", "<segmented>", "<bndbox>"))


def _said(tree: Element) -> dict[str, Any]:
    said: dict[str, Any] = {}
    database = tree.findtext("source/database") or ""
    if database not in {"", "Unknown"}:
        said["database"] = database
    if tree.get("verified") == "yes":
        said["verified"] = True
    return said


def _whole(text: str | None) -> int:
    value = number_in(text)
    return int(value) if value is not None and 0 < value < 2**31 else 0


def _class_order(root: Path, labels: Sequence[str]) -> list[str]:
    """CVAT's labelmap.txt gives an order; else the names are sorted."""
    order: list[str] = []
    if (root / "labelmap.txt").is_file():
        lines = [line.partition(":")[0].strip() for line in read_text(root / "labelmap.txt").splitlines()]
        order = [name for name in lines if name and not name.startswith("#") and name != "background"]
    return list(dict.fromkeys([*order, *sorted(set(labels))]))
