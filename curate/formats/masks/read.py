"""Reading folders of class masks: every mask taken apart into one annotation for each class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from curate.errors import FormatError, ImageError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import list_files, peek_files
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.mask_images import MASK_SUFFIXES, VOID, Region, fit_to_file, split_labels, values_in
from curate.formats.masks.layout import Layout, find_layout, is_mask_name
from curate.formats.masks.legend import LIST_NAMES, Legend, MaskClass, color_text, read_legend, resolve
from curate.formats.shape_columns import Shape
from curate.geometry import encode_rle
from curate.imaging import LabelImage, load_labels

_THREADS: Final = 4
_AHEAD: Final = 8
# VOC's folders and annotation files, and ADE20K's masks, whose colors number things as well as classes.
_OTHER_FORMAT: Final = re.compile(r"\.xml$|(^|/)(SegmentationObject|JPEGImages)/|_parts_\d+\.png$")


def detect(source: Path) -> Detection | None:
    """Images and masks of the same names, in folders called so or with suffixes that say so."""
    if not source.is_dir():
        return None
    files = peek_files(source)
    layout = find_layout(files)
    masks = len(layout.masks) + len(layout.orphans) + len(layout.ambiguous)
    if not layout.masks or 2 * len(layout.masks) < masks:
        return None
    reason = f"{len(layout.masks)} masks with images of the same name in a look at {len(files)} files"
    other = next((name for name in files if _OTHER_FORMAT.search(name)), None)
    if other is not None:
        return Detection(0.6, f"{reason}, but {other} says more")
    lists = [name for name in files if PurePosixPath(name).name in LIST_NAMES]
    if lists:
        return Detection(0.9, f"{reason}; the class list {lists[0]}")
    beside = all(is_mask_name(mask) for mask in layout.masks.values())
    return Detection(0.6 if beside else 0.85, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of images and masks.

    Raises:
        FormatError: There is no mask, or the class list cannot be read.
    """
    if not source.is_dir():
        raise FormatError("this is not a folder", where=source, remedy="give the folder of images and masks")
    source = source.absolute()
    files = list_files(source)
    elsewhere = options.images is not None and not options.images.absolute().is_relative_to(source)
    image_root = options.images.absolute() if elsewhere and options.images else source
    layout = find_layout(files, list_files(image_root) if elsewhere else None)
    if not layout.masks and not layout.orphans:
        raise FormatError(
            "there are no masks", where=source, remedy="put them into a folder 'masks', called as their images"
        )
    _report_layout(layout, losses)
    legend = _legend(source, files, layout, options, losses)
    reader = _Reader(image_root, legend, Collector(options, losses), losses)
    pairs = [(name, layout.masks.get(name)) for name in layout.images]
    paths: list[Path | None] = [image_root / name for name in layout.images]
    pairs += [(location, mask) for mask, location in layout.orphans.items()]
    paths += [None] * len(layout.orphans)
    masks = _load_ahead([None if mask is None else source / mask for _, mask in pairs])
    for (location, mask), path, labels in zip(pairs, paths, masks, strict=True):
        reader.take(location, path, mask, labels)
    return reader.collector.records([*legend.infos, *reader.unlisted.values()], {"masks": _info(legend)})


@dataclass(frozen=True)
class _Parts:
    """A mask taken apart."""

    regions: Sequence[Region]
    ignored: str | None
    size: tuple[int, int]
    is_color: bool


class _Reader:
    """Adds images with their masks.

    Args:
        root: Folder of the images.
        legend: What the values mean.
        collector: Gets images and annotations.
        losses: Gets what does not fit.
    """

    def __init__(self, root: Path, legend: Legend, collector: Collector, losses: LossReport) -> None:
        self._root = root
        self._legend = legend
        self._losses = losses
        self.collector = collector
        self.unlisted: dict[str, ClassInfo] = {}

    def take(self, location: str, path: Path | None, mask: str | None, labels: LabelImage | ImageError | None) -> None:
        """Add an image with what its mask shows."""
        split = split_of(location) or (split_of(mask) if mask else None)
        parts = self._parts(path, mask, labels)
        if parts is None or mask is None:
            self.collector.image(location, path, split=split)
            return
        image = self.collector.image(
            location,
            path,
            size=parts.size[::-1] if path is None else None,
            split=split,
            metadata={"masks": {"ignore": parts.ignored}} if parts.ignored else None,
            source=mask,
        )
        for region in parts.regions:
            self.collector.add(
                image,
                self._name(region.value, parts.is_color, mask),
                Shape(rle=(region.counts, parts.size)),
                place=f"{mask}: value {region.value}",
                area=float(region.area),
                key=region.value,
                source=mask,
            )

    def _parts(self, path: Path | None, mask: str | None, labels: LabelImage | ImageError | None) -> _Parts | None:
        if mask is None or labels is None:
            return None
        if isinstance(labels, ImageError):
            self._losses.dropped("masks", "the mask cannot be read", f"{mask}: {labels.what}")
            return None
        values, is_color = resolve(labels, self._legend)
        fitted = fit_to_file(values, path)
        if fitted is None:
            self._losses.dropped("masks", "of another size than the image", mask)
            return None
        try:
            regions = split_labels(fitted)
        except ImageError as error:
            self._losses.dropped("masks", "too many values for an image of classes", f"{mask}: {error.what}")
            return None
        roles = {region.value: self._legend.role_of(region.value, is_color=is_color) for region in regions}
        ignored = [value for value, role in roles.items() if role == "ignore"]
        return _Parts(
            [region for region in regions if roles[region.value] == "class"],
            encode_rle(np.isin(fitted, ignored)) if ignored else None,
            (fitted.shape[0], fitted.shape[1]),
            is_color,
        )

    def _name(self, value: int, is_color: bool, mask: str) -> str:
        """A class's name; where the list has none, its value or color stands for it, which is reported once."""
        known = self._legend.class_of(value, is_color=is_color)
        if known is not None:
            return known.name
        name = f"#{value:06x}" if is_color else f"class_{value}"
        if name not in self.unlisted:
            reason = "not in the class list" if self._legend.classes else "no class list says its name"
            self._losses.converted("classes", f"{reason}: called after its value", f"{mask}: {name}")
            color = color_text(value) if is_color else None
            self.unlisted[name] = ClassInfo(name, source_id=None if is_color else value, color=color)
        return name


def _load_ahead(paths: Sequence[Path | None]) -> Iterator[LabelImage | ImageError | None]:
    """Decode masks in order, a few at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(paths), _AHEAD):
            yield from pool.map(_try_load, paths[start : start + _AHEAD])


def _try_load(path: Path | None) -> LabelImage | ImageError | None:
    if path is None:
        return None
    if path.suffix.lower() not in MASK_SUFFIXES:
        return ImageError("its file format does not keep exact values; save masks as PNG", where=path)
    try:
        return load_labels(path)
    except ImageError as error:
        return error


# --------------------------------------------------------------------------------------------------------- what they mean


def _legend(source: Path, files: Sequence[str], layout: Layout, options: ReadOptions, losses: LossReport) -> Legend:
    """The class list asked for, else those in the folder; where it leaves a question open, the masks answer it."""
    if options.classes is not None:
        paths = [options.classes]
    else:
        # Roboflow has one in every split; they are the same.
        found = sorted(files, key=lambda name: name.count("/"))
        first = {name: next((each for each in found if PurePosixPath(each).name == name), None) for name in LIST_NAMES}
        paths = [source / name for name in first.values() if name is not None]
    legend = read_legend(paths)
    masks = [source / mask for mask in [*layout.masks.values(), *layout.orphans]]
    if not legend.classes:
        return replace(legend, is_binary=not any(np.setdiff1d(values, (0, VOID)).size for values in _values(masks)))
    last = len(legend.classes)
    if legend.is_plain and legend.background is None and any(last in values for values in _values(masks)):
        reason = "counted from 1, with 0 as background: the masks have one value more than the list has names"
        losses.converted("classes", reason, paths[0].name, last)
        return legend.counted_from_one()
    return legend


def _values(masks: Iterable[Path]) -> Iterator[np.ndarray[Any, Any]]:
    """The values in each mask that is not in color."""
    for labels in _load_ahead(list(masks)):
        if isinstance(labels, LabelImage) and labels.values.ndim == 2:
            yield values_in(labels.values)


def _info(legend: Legend) -> dict[str, object]:
    """What the masks have that no annotation says; the writer restores it."""
    return {
        "background": _class_json(legend.background),
        "ignored": [_class_json(known) for known in legend.ignored],
    }


def _class_json(known: MaskClass | None) -> dict[str, object] | None:
    return None if known is None else {"name": known.name, "value": known.value, "color": color_text(known.color)}


def _report_layout(layout: Layout, losses: LossReport) -> None:
    for mask in layout.ambiguous:
        losses.dropped("masks", "several images, or an image that has a mask already, could be meant", mask)
    for name in layout.others:
        losses.dropped("image files", "depth maps and instances are not class masks", name)
