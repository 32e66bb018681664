"""Reading VOC: every annotation file of a folder, and the images that have none."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.columns import images_table
from curate.formats.files import is_image, list_files, peek_files, read_head, read_text
from curate.formats.locations import safe_location
from curate.formats.losses import LossReport
from curate.formats.sizes import probe, reconcile_sizes
from curate.formats.voc.images import Images, KnownImages, add_images_without_annotations, join, splits_of
from curate.formats.voc.objects import Objects, annotations_of, number_in, read_object
from curate.formats.voc.write import counts_from_one


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
    known = KnownImages(root, list_files(root) if source.is_file() else files, options)
    annotations = [name for name in files if name.lower().endswith(".xml")]
    images, objects = Images(), Objects()
    read_count = sum(_read_file(name, known, images, objects, losses) for name in annotations)
    if read_count == 0:
        raise FormatError("there is no VOC annotation (<annotation> in an .xml file)", where=source, remedy="check it")
    if source.is_dir():
        add_images_without_annotations(known, images)
    _report_masks(files, losses)
    headers = probe(images.path, losses)
    given = np.array(images.size, dtype=np.int64).reshape(-1, 2)
    width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, images.location, losses)
    splits = [options.split] * len(images.location) if options.split else splits_of(known, images.location, losses)
    classes = [ClassInfo(name) for name in _class_order(root, objects.label)]
    columns = {"split": splits, "source": images.source, "metadata": images.metadata}
    return Records(
        images_table(images.location, images.path, width, height, columns),
        [annotations_of(objects, images, headers, raw, options.layer, losses)],
        classes,
    )


def _is_voc(path: Path) -> bool:
    head = read_head(path, 2048)
    # LabelMe's XML has the same root, but <imagesize> and no <size>.
    if re.search(r"<annotation[\s>]", head) is None or "<imagesize>" in head:
        return False
    return any(tag in head for tag in ("<size>", "<segmented>", "<bndbox>"))


def _read_file(name: str, known: KnownImages, images: Images, objects: Objects, losses: LossReport) -> bool:
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
        read_object(element, row, number, counts_from_one(database), f"{name}: object {number}", objects, losses)
    return True


def _place(name: str, filename: str, known: KnownImages, images: Images, losses: LossReport) -> tuple[str, Path | None]:
    """Location and path of the image that an annotation file belongs to."""
    location = known.find(name, filename)
    if location is not None:
        return location, known.root / location
    in_kit = "Annotations" in name.split("/")
    folder = "JPEGImages" if in_kit else name.rpartition("/")[0]
    location = join(folder, filename)
    if not filename or location in images.taken:
        location = join(folder, PurePosixPath(name).stem + (PurePosixPath(filename).suffix or ".jpg"))
    losses.converted("images", "not there; kept without a file", f"{name}: {location}")
    return location, None


def _metadata(tree: Element, database: str) -> str | None:
    said: dict[str, Any] = {}
    if database not in {"", "Unknown"}:
        said["database"] = database
    if tree.get("verified") == "yes":
        said["verified"] = True
    return json.dumps({"voc": said}, ensure_ascii=False) if said else None


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


def _report_masks(files: Sequence[str], losses: LossReport) -> None:
    masks = [name for name in files if "SegmentationObject" in name.split("/")[:-1]]
    masks = masks or [name for name in files if "SegmentationClass" in name.split("/")[:-1]]
    if masks:
        losses.dropped("masks", "segmentation images are not read yet", masks[0], len(masks))
