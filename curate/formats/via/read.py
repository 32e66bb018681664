"""Reading VIA: every project and export of a folder, and the images that they do not name."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

from curate.formats.annotation_files import find_annotation_files, read_each
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.embedded import keep_image
from curate.formats.files import peek_files, read_head
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.references import References, is_address
from curate.formats.values import is_shallow, mapping
from curate.formats.via.files import CSV_SUFFIX, FileEntry, load
from curate.formats.via.regions import class_attribute, class_of, shape_of

_MARKS: Final = re.compile(
    r'"(_via_img_metadata|_via_settings|shape_attributes|region_attributes|file_attributes)"\s*:'
)
_LOOKED_AT: Final = 30


def detect(source: Path) -> Detection | None:
    """JSON with VIA's keys, or CSV with its columns."""
    if source.is_file():
        return Detection(0.97, "a VIA project or export") if _is_via(source) else None
    files = peek_files(source)
    names = [name for name in files if name.lower().endswith((".json", ".csv"))][:_LOOKED_AT]
    found = [name for name in names if _is_via(source / name)]
    return Detection(0.97, f"{found[0]} is a VIA project or export") if found else None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read every VIA file of a folder, or one file.

    Raises:
        FormatError: There is none.
    """
    # JSON before CSV, since it has the more.
    root, names = find_annotation_files(source, ".json", CSV_SUFFIX)
    exports = dict(read_each(root, names, load, losses, wanted="VIA project or export"))
    for name, export in exports.items():
        losses.dropped("images", "entries without 'regions'", name, export.not_entries)
        losses.dropped(
            "rows", "not as many columns as the first, or attributes that are not JSON", name, export.bad_rows
        )
    every = (region for export in exports.values() for entry in export.entries for _, region in entry.regions)
    class_name = class_attribute(every, losses)
    gatherer = _Gatherer(root, options, losses, class_name)
    for name, export in exports.items():
        for entry in export.entries:
            gatherer.add(entry, name)
    if source.is_dir():
        gatherer.add_others()
    definitions = {key: value for export in exports.values() for key, value in export.definitions.items()}
    listed = mapping(mapping(definitions.get(class_name or "")).get("options"))
    info: dict[str, object] = {"via": {"region_attributes": definitions}} if definitions else {}
    return gatherer.collector.records([ClassInfo(name) for name in listed if name], info)


class _Gatherer:
    """Takes in what the files say, image by image."""

    def __init__(self, root: Path, options: ReadOptions, losses: LossReport, class_name: str | None) -> None:
        self.references = References(root, options)
        self.collector = Collector(options, losses)
        self.options = options
        self.losses = losses
        self.class_name = class_name
        self.regions: dict[str, set[str]] = {}
        self.in_json: set[str] = set()
        self.numbers: Counter[tuple[str, str]] = Counter()

    def add(self, entry: FileEntry, source: str) -> None:
        """Take in an image and its regions."""
        place = f"{source}: {entry.key}"
        if not entry.filename:
            self.losses.dropped("images", "without a filename", place)
            return
        location, path = self.references.place(source, entry.filename, f"{entry.folder}{entry.filename}")
        is_csv = source.lower().endswith(CSV_SUFFIX)
        if is_csv and location in self.in_json:
            self._compare(entry, location, place)
            return
        if not is_csv:
            self.in_json.add(location)
        if path is None:
            path = keep_image(entry.picture, location, place, self.options, self.losses)
        metadata = {
            key: value for key, value in entry.attributes.items() if value not in (None, "") and is_shallow(value)
        }
        if is_address(entry.filename):
            metadata.setdefault("url", entry.filename)
        image = self.collector.image(location, path, split=split_of(location), metadata=metadata, source=source)
        known = self.regions.setdefault(location, set())
        for said, region in entry.regions:
            number = self.numbers[source, location]
            self.numbers[source, location] += 1
            self._add_region((said, region), image, known, source, number, f"{place}: region {number}")

    def add_others(self) -> None:
        """Take in the images that no file names."""
        for location, path in self.references.others(self.regions):
            self.collector.image(location, path, split=split_of(location))

    def _add_region(
        self,
        pair: tuple[dict[str, Any], dict[str, Any]],
        image: int,
        known: set[str],
        source: str,
        key: int,
        place: str,
    ) -> None:
        if not is_shallow([*pair]):
            self.losses.dropped("annotations", "nested too deeply", place)
            return
        if (content := _content(*pair)) in known:
            self.losses.dropped("annotations", "the same region is there already", place)
            return
        known.add(content)
        shape, ellipse = shape_of(pair[0])
        if shape is None:
            self.losses.dropped("annotations", f"not a shape that is known: '{str(pair[0].get('name'))[:40]}'", place)
            return
        if ellipse:
            reason = "circles and ellipses become polygons; what they were stays in the attributes"
            self.losses.converted("annotations", reason, place)
        label, attributes = class_of(pair[1], self.class_name, place, self.losses)
        attributes |= {"ellipse": ellipse} if ellipse else {}
        self.collector.add(image, label, shape, place=place, attributes=attributes, key=key, source=source, salt=source)

    def _compare(self, entry: FileEntry, location: str, place: str) -> None:
        """Report an image of a CSV file that a JSON file speaks of."""
        known = self.regions.get(location, set())
        new = sum(not is_shallow([*pair]) or _content(*pair) not in known for pair in entry.regions)
        self.losses.dropped("annotations", "in a CSV file, but not in the JSON file of the same image", place, new)
        if not new:
            reason = "a CSV file says the same of an image as a JSON file, which is taken"
            self.losses.converted("image entries", reason, place)


def _content(shape: dict[str, Any], region: dict[str, Any]) -> str:
    return json.dumps([shape, region], sort_keys=True)


def _is_via(path: Path) -> bool:
    head = read_head(path, 8192)
    if path.name.lower().endswith(".csv"):
        return "region_shape_attributes" in head.partition("\n")[0]
    return head.lstrip().startswith("{") and _MARKS.search(head) is not None
