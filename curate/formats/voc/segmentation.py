"""VOC's segmentation images: SegmentationClass/ paints the classes, SegmentationObject/ the objects one by one.

In both, 0 is background and 255 a void border around everything. The development kit numbers the objects of
SegmentationObject as the XML file lists them; what tools write does not always agree, so the classes are compared, and where
the numbers of objects differ, the boxes as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import FormatError, ImageError
from curate.formats.files import is_image
from curate.formats.locations import stem
from curate.formats.losses import LossReport
from curate.formats.mask_images import VOID, Region, fit_to_image, pack_colors, split_labels, values_in, voc_colors
from curate.formats.masks.legend import Legend, MaskClass, make_legend, read_legend, resolve
from curate.formats.voc.images import IMAGE_FOLDERS
from curate.formats.voc.objects import VocObject
from curate.geometry import encode_rle, orient_pixels, rle_boxes
from curate.imaging import ImageHeader, LabelImage, load_labels

CLASS_FOLDER: Final = "SegmentationClass"
OBJECT_FOLDER: Final = "SegmentationObject"

_KIT_FOLDERS: Final = frozenset({"Annotations", CLASS_FOLDER, OBJECT_FOLDER, *IMAGE_FOLDERS})
_INSIDE: Final = 0.8
_VOC_CLASSES: Final = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_NOTHING: Final = frozenset({0, VOID})

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Mask:
    """One mask in an image.

    Attributes:
        number: Of the object in SegmentationObject, or of the class in SegmentationClass.
        label: Its class, where a class image tells.
        region: Its pixels.
        source: The file.
    """

    number: int
    label: str | None
    region: Region
    source: str


@dataclass(frozen=True)
class Segmentation:
    """What the segmentation images of one image show.

    Attributes:
        size: Height and width.
        objects: A mask of each object; empty where there is only a class image.
        classes: A mask of each class; empty where there are objects.
        void: Run lengths of the pixels that count as nothing, or None; oriented as the image is shown.
    """

    size: tuple[int, int]
    objects: Sequence[Mask] = ()
    classes: Sequence[Mask] = ()
    void: str | None = None


@dataclass
class SegmentationFiles:
    """Finds and reads the segmentation images of a dataset.

    Args:
        root: The dataset's folder.
        files: Every file in it.
        losses: What cannot be read.
    """

    root: Path
    files: Sequence[str]
    losses: LossReport
    legend: Legend = field(init=False)
    _by_key: dict[str, dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_key = {}
        for name in self.files:
            folder = {CLASS_FOLDER, OBJECT_FOLDER} & set(name.split("/")[:-1])
            if folder and is_image(name):
                self._by_key.setdefault(key_of(name), {})[folder.pop()] = name
        self.legend = self._read_legend()

    @property
    def keys(self) -> Sequence[str]:
        """Of the images that have any (`key_of`)."""
        return list(self._by_key)

    def has(self, key: str) -> bool:
        """Whether an image has any (`key_of`)."""
        return key in self._by_key

    def read(self, key: str, header: ImageHeader | None, *, as_stored: bool) -> Segmentation | None:
        """What the segmentation images of an image show; None if it has none that can be used.

        Args:
            key: The image's (`key_of`).
            header: The image's, or None if it is not there.
            as_stored: Whether the masks are wanted as the image is stored, before EXIF orientation.
        """
        names = self._by_key.get(key, {})
        images = {
            folder: image
            for folder, name in names.items()
            if (image := self._load(name, header, as_stored, folder)) is not None
        }
        if len({image.shape for image in images.values()}) > 1:
            self.losses.dropped("masks", "class and object image are of different sizes", names[CLASS_FOLDER])
            del images[CLASS_FOLDER]
        if not images:
            return None
        first = next(iter(images.values()))
        size = (int(first.shape[0]), int(first.shape[1]))
        void = np.logical_or.reduce([image == VOID for image in images.values()])
        shown = orient_pixels(void, header.orientation) if header is not None and as_stored else void
        counts = encode_rle(shown) if void.any() else None
        masks = self._masks(images, names)
        is_things = OBJECT_FOLDER in images
        return Segmentation(size, masks if is_things else (), () if is_things else masks, counts)

    def _read_legend(self) -> Legend:
        """CVAT's labelmap.txt, with background as 0; else the challenge's classes."""
        path = self.root / "labelmap.txt"
        if not path.is_file():
            return _voc_legend()
        try:
            legend = read_legend([path])
        except FormatError as error:
            self.losses.dropped("class lists", error.what, path.name)
            return _voc_legend()
        has_background = legend.background is not None and legend.background.value == 0
        return legend if has_background else legend.counted_from_one()

    def _masks(self, images: Mapping[str, Values], names: Mapping[str, str]) -> list[Mask]:
        folder = OBJECT_FOLDER if OBJECT_FOLDER in images else CLASS_FOLDER
        labels = {known.value: known.name for known in self.legend.classes}
        numbers = _classes_below(images[OBJECT_FOLDER], images[CLASS_FOLDER]) if len(images) == 2 else {}
        try:
            regions = split_labels(images[folder], skip=_NOTHING)
        except ImageError as error:
            self.losses.dropped("masks", "too many values for an image of classes", f"{names[folder]}: {error.what}")
            return []
        found = []
        for region in regions:
            number = numbers.get(region.value) if folder == OBJECT_FOLDER else region.value
            label = None if number is None else labels.get(number, f"class_{number}")
            found.append(Mask(region.value, label, region, names[folder]))
        return found

    def _load(self, name: str, header: ImageHeader | None, as_stored: bool, folder: str) -> Values | None:
        """An image's numbers: of classes as in the legend, or of objects; 0 where there is none and 255 where void."""
        try:
            labels = load_labels(self.root / name)
        except ImageError as error:
            self.losses.dropped("masks", "the mask cannot be read", f"{name}: {error.what}")
            return None
        values = _class_numbers(labels, self.legend) if folder == CLASS_FOLDER else _object_numbers(labels)
        if header is None:
            return values
        stored = values if values.shape == header.stored_size[::-1] else None
        fitted = stored if as_stored else fit_to_image(values, header)
        if fitted is None:
            self.losses.dropped("masks", "of another size than the image", name)
        return fitted


def key_of(location: str) -> str:
    """What an image, its annotation file and its masks have in common: the location without VOC's folders and the ending."""
    *folders, name = stem(location).split("/")
    return "/".join([*(folder for folder in folders if folder not in _KIT_FOLDERS), name])


def matched(objects: Sequence[VocObject | str], masks: Sequence[Mask], size: tuple[int, int]) -> dict[int, Mask]:
    """The mask of each object that has one, by its place in the file from 1.

    Args:
        objects: As the XML file lists them; a text where one could not be read.
        masks: Of the image's objects; those that are another class's, or elsewhere, are no object's.
        size: Height and width of the masks.
    """
    if not masks:
        return {}
    boxes = rle_boxes([mask.region.counts for mask in masks], [size] * len(masks))
    is_kit = len(masks) == len(objects)
    found: dict[int, Mask] = {}
    for mask, box in zip(masks, boxes.tolist(), strict=True):
        candidate = objects[mask.number - 1] if 0 < mask.number <= len(objects) else ""
        if isinstance(candidate, str) or mask.label not in {None, candidate.label}:
            continue
        if is_kit or _share_inside(box, candidate.shape.bbox) >= _INSIDE:
            found[mask.number] = mask
    return found


def _share_inside(inner: Sequence[float], outer: Sequence[float] | None) -> float:
    """Which part of a box is inside another; 0 without one."""
    if outer is None:
        return 0.0
    width = min(inner[0] + inner[2], outer[0] + outer[2]) - max(inner[0], outer[0])
    height = min(inner[1] + inner[3], outer[1] + outer[3]) - max(inner[1], outer[1])
    return max(width, 0.0) * max(height, 0.0) / (inner[2] * inner[3])


def _classes_below(objects: Values, classes: Values) -> dict[int, int]:
    """The class that most pixels of each object have."""
    inside = (objects != 0) & (objects != VOID) & (classes != 0) & (classes != VOID)
    pairs, counts = np.unique(
        objects[inside].astype(np.int64) << 32 | classes[inside].astype(np.int64), return_counts=True
    )
    # Of each object, the pair that comes last is the most numerous.
    order = np.argsort(counts, kind="stable")
    return {int(pair) >> 32: int(pair) & 0xFFFFFFFF for pair in pairs[order]}


def _class_numbers(labels: LabelImage, legend: Legend) -> Values:
    values, is_color = resolve(labels, legend)
    if is_color:
        values = _colors_to_numbers(
            values, {known.color: known.value for known in legend.classes if known.color is not None}
        )
    for known in legend.ignored:
        values = np.where(values == known.value, VOID, values)
    return values if legend.background is None else np.where(values == legend.background.value, 0, values)


def _object_numbers(labels: LabelImage) -> Values:
    if labels.values.ndim == 2:
        return labels.values
    colors = pack_colors(voc_colors(256)).tolist()
    return _colors_to_numbers(pack_colors(labels.values), {color: number for number, color in enumerate(colors)})


def _colors_to_numbers(values: Values, numbers: Mapping[int, int]) -> Values:
    """Colors as numbers: black is background, and those that are not known get numbers of their own above 255."""
    found = values_in(values)
    void = {int(color): VOID for color in pack_colors(voc_colors(256))[VOID:]}
    known = {**void, 0: 0, **numbers}
    table = [known.get(color, 256 + place) for place, color in enumerate(found.tolist())]
    return np.array(table, dtype=np.int32)[np.searchsorted(found, values)]


def _voc_legend() -> Legend:
    colors = pack_colors(voc_colors(len(_VOC_CLASSES))).tolist()
    classes = [
        MaskClass(name, value, color) for value, (name, color) in enumerate(zip(_VOC_CLASSES, colors, strict=True))
    ]
    return make_legend(classes, has_values=False)
