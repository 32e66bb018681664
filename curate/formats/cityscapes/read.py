"""Reading Cityscapes: which files belong to an image, and what the one that is read says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curate.errors import FormatError, ImageError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.cityscapes.labels import LABELS, NO_TRAIN_ID, CityscapesLabel
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files
from curate.formats.locations import split_name
from curate.formats.losses import LossReport
from curate.formats.mask_images import fit_to_file, pack_colors, split_labels
from curate.formats.masks.legend import read_legend
from curate.formats.shape_columns import Shape
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, points, sequence, text, whole
from curate.imaging import load_labels

_IMAGE: Final = re.compile(r"(?P<name>.+)_leftImg8bit\.\w+$")
_LABELS: Final = re.compile(
    r"(?P<name>.+)_(?P<set>gtFine|gtCoarse)_(?P<kind>polygons\.json|(instanceIds|labelIds|labelTrainIds|color)\.png)$"
)
_FRAME: Final = re.compile(r"(?P<city>.+)_(?P<sequence>\d+)_(?P<frame>\d{1,12})")
_LAYOUT_FOLDER: Final = re.compile(r"(leftImg8bit|gtFine|gtCoarse)(_\w+)?")
_KINDS: Final = ("polygons.json", "instanceIds.png", "labelIds.png", "labelTrainIds.png", "color.png")
_CLASS_LISTS: Final = ("dataset_meta.json", "label_colors.txt")
_SAID: Final = frozenset({"label", "polygon", "deleted"})

_Key = tuple[str, ...]


def detect(source: Path) -> Detection | None:
    """Files called *_leftImg8bit.png and *_gtFine_*; labels alone are less sure."""
    if not source.is_dir():
        return None
    files = peek_files(source)
    images = sum(_IMAGE.match(name) is not None for name in files)
    labels = sum(_LABELS.match(name) is not None for name in files)
    if labels == 0:
        return None
    reason = f"{images} files *_leftImg8bit and {labels} *_gtFine_* or *_gtCoarse_* in a look at {len(files)}"
    return Detection(0.97 if images else 0.9, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder.

    Raises:
        FormatError: There are no label files, or the class list cannot be read.
    """
    if not source.is_dir():
        raise FormatError("this is not a folder", where=source, remedy="give the folder above gtFine")
    source = source.absolute()
    files = list_files(source)
    labels = _label_files(files, losses)
    if not labels:
        raise FormatError(
            "there are no files *_gtFine_* or *_gtCoarse_*", where=source, remedy="give the folder above gtFine"
        )
    elsewhere = options.images is not None and not options.images.absolute().is_relative_to(source)
    root = options.images.absolute() if elsewhere and options.images else source
    images = {_key(name, _IMAGE): name for name in (list_files(root) if elsewhere else files) if _is_scene(name)}
    reader = _Reader(source, _classes(source, files, options), Collector(options, losses), losses)
    by_name = {key[-1]: key for key in labels}
    for key, location in sorted(images.items(), key=lambda item: item[1]):
        # Images elsewhere may lie in one folder.
        own = key if key in labels else by_name.get(key[-1], key) if len(key) == 1 else key
        reader.take(own, location, root / location, labels.pop(own, {}))
    for key, kinds in labels.items():
        location = "/".join(["leftImg8bit", *key]) + "_leftImg8bit.png"
        reader.take(key, location, None, kinds)
    return reader.collector.records(reader.classes.infos)


@dataclass(frozen=True)
class _Classes:
    """The classes of a set: Cityscapes' own, or those that a class list names."""

    labels: Sequence[CityscapesLabel]
    is_custom: bool

    @property
    def infos(self) -> list[ClassInfo]:
        return [ClassInfo(label.name, source_id=label.id) if self.is_custom else label.info for label in self.labels]

    @property
    def by_name(self) -> dict[str, CityscapesLabel]:
        return {label.name: label for label in self.labels}

    def by(self, kind: str) -> dict[int, CityscapesLabel]:
        """By the value in a kind of image; where several classes share it, the first."""
        of_label = {"labelTrainIds.png": "train_id", "color.png": "color"}.get(kind, "id")
        return {getattr(label, of_label): label for label in reversed(self.labels)}


@dataclass(frozen=True)
class _Reader:
    """Adds images with what their label file says."""

    root: Path
    classes: _Classes
    collector: Collector
    losses: LossReport

    def take(self, key: _Key, location: str, path: Path | None, kinds: Mapping[str, str]) -> None:
        """Add an image.

        Args:
            key: Its folders and name (`_key`).
            location: Where it is.
            path: Its file, or None.
            kinds: Its label files by kind.
        """
        for kind in (kind for kind in _KINDS if kind in kinds):
            name = kinds[kind]
            try:
                if kind == "polygons.json":
                    tree = mapping(read_json(self.root / name))
                    size = (whole(tree.get("imgWidth")), whole(tree.get("imgHeight")))
                    image = self._image(key, location, path, name, size)
                    self._take_polygons(image, sequence(tree.get("objects")), name)
                else:
                    self._take_mask(key, location, path, name, kind)
            except (FormatError, ImageError) as error:
                self.losses.dropped("annotation files", "cannot be read; another of the image is, if any", str(error))
            else:
                return
        self._image(key, location, path, None)

    def _image(
        self, key: _Key, location: str, path: Path | None, source: str | None, size: tuple[int, int] | None = None
    ) -> int:
        frame = _FRAME.fullmatch(key[-1])
        folders = key[:-1]
        split = (split_name(folders[0]) or folders[0]) if len(folders) > 1 else split_name("".join(folders))
        return self.collector.image(
            location,
            path,
            size=size,
            split=split,
            group=f"{frame['city']}_{frame['sequence']}" if frame else None,
            frame=int(frame["frame"]) if frame else None,
            metadata={"cityscapes": {"city": frame["city"]}} if frame else None,
            source=source,
        )

    def _take_polygons(self, image: int, objects: Sequence[Any], name: str) -> None:
        known = self.classes.by_name
        for number, each in enumerate(objects, 1):
            place, said = f"{name}: object {number}", mapping(each)
            label, outline = text(said.get("label")), points(said.get("polygon"))
            if said.get("deleted") in (1, True):
                self.losses.dropped("annotations", "deleted in the source", place)
            elif not label or outline is None:
                self.losses.dropped("annotations", "without a label or a polygon of pairs of numbers", place)
            else:
                single = label.removesuffix("group")
                is_group = label not in known and single in known
                others = {field: value for field, value in said.items() if field not in _SAID}
                if not is_shallow(others):
                    self.losses.dropped("attributes", "nested too deeply", place, len(others))
                    others = {}
                self.collector.add(
                    image,
                    single if is_group else label,
                    Shape(polygons=[outline]),
                    place=place,
                    iscrowd=True if is_group else None,
                    attributes={"order": number, **others},
                    key=number,
                    source=name,
                )

    def _take_mask(self, key: _Key, location: str, path: Path | None, name: str, kind: str) -> None:
        labels = load_labels(self.root / name)
        values = labels.values
        if kind == "color.png" and labels.palette is not None:
            raise ImageError("a color image with a palette", where=name, remedy="save it in RGB")
        if (values.ndim == 3) != (kind == "color.png"):
            raise ImageError("colors where ids should be, or ids where colors", where=name)
        fitted = fit_to_file(pack_colors(values) if values.ndim == 3 else values, path)
        if fitted is None:
            raise ImageError("of another size than the image", where=name)
        size = (int(fitted.shape[0]), int(fitted.shape[1]))
        regions = split_labels(fitted, skip={0} if kind != "labelTrainIds.png" or self.classes.is_custom else ())
        image = self._image(key, location, path, name, size[::-1] if path is None else None)
        known = self.classes.by(kind)
        for region in regions:
            is_instance = kind == "instanceIds.png" and region.value >= 1000
            value = region.value // 1000 if is_instance else region.value
            label = known.get(value)
            if kind == "labelTrainIds.png" and (label is None or value == NO_TRAIN_ID):
                reason = "of a trainId that no class, or more than one, has"
                self.losses.dropped("mask pixels", reason, f"{name}: {value}", region.area)
                continue
            if label is None:
                self.losses.converted("classes", "an id without a name: called after it", f"{name}: {value}")
            is_thing = kind == "instanceIds.png" and label is not None and label.has_instances
            self.collector.add(
                image,
                f"class_{value}" if label is None else label.name,
                Shape(rle=(region.counts, size)),
                place=f"{name}: {region.value}",
                area=float(region.area),
                iscrowd=not is_instance if is_thing else None,
                key=region.value,
                source_id=str(region.value),
                source=name,
            )


def _label_files(files: Sequence[str], losses: LossReport) -> dict[_Key, dict[str, str]]:
    """The label files of each image by kind; coarse ones only where there are no fine ones."""
    found: dict[_Key, dict[str, dict[str, str]]] = {}
    for name in files:
        match = _LABELS.match(name)
        if match is not None:
            found.setdefault(_key(name, _LABELS), {}).setdefault(match["set"], {})[match["kind"]] = name
    for sets in found.values():
        if len(sets) == 2:
            first = next(iter(sets["gtCoarse"].values()))
            losses.dropped("annotation files", "coarse labels of an image that has fine ones", first)
    return {key: sets.get("gtFine") or sets["gtCoarse"] for key, sets in found.items()}


def _key(location: str, pattern: re.Pattern[str]) -> _Key:
    """The folders (split and city) and the name that an image and its labels have in common."""
    match = pattern.match(location)
    assert match is not None
    *folders, name = match["name"].split("/")
    return (*(folder for folder in folders if not _LAYOUT_FOLDER.fullmatch(folder)), name)


def _is_scene(location: str) -> bool:
    return is_image(location) and _IMAGE.match(location) is not None


def _classes(source: Path, files: Sequence[str], options: ReadOptions) -> _Classes:
    lists = [source / name for name in _CLASS_LISTS if name in files]
    if options.classes is not None or lists:
        legend = read_legend([options.classes] if options.classes is not None else lists)
        return _Classes(
            [
                CityscapesLabel(each.name, each.value, each.value, "", False, each.color or -1)
                for each in legend.classes
                if each != legend.background
            ],
            is_custom=True,
        )
    return _Classes(LABELS, is_custom=False)
