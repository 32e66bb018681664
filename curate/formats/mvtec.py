"""MVTec AD: images of good and defective products, with masks of the defects (Bergmann et al. 2021).

    <category>/train/good/000.png
    <category>/test/<defect>/000.png
    <category>/ground_truth/<defect>/000_mask.png

The source is one category's folder, or one with several. Every image has a label of the whole image, 'good' or the kind of
defect; a defective one a mask of the same class as well, where there is a ground truth. The category is in the image's tags
and metadata. Masks are two-valued: where one is not, everything above 0 is the defect, which is reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from curate.errors import FormatError, ImageError
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files
from curate.formats.locations import split_name, stem
from curate.formats.losses import LossReport
from curate.formats.mask_images import fit_to_file, values_in
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.geometry import encode_rle
from curate.imaging import load_labels

GOOD: Final = "good"

_TRUTH: Final = "ground_truth"
_SUBSETS: Final = frozenset({"train", "test", "validation", "val", "default"})
_MASK_SUFFIX: Final = re.compile(r"_mask$")


@dataclass(frozen=True)
class _Place:
    """Where a file is: the folders above, the subset or 'ground_truth', the defect, and the name without an ending."""

    above: str
    subset: str
    defect: str
    name: str


def detect(source: Path) -> Detection | None:
    """ground_truth/<defect>/ with images beside test/<defect>/, or train/good."""
    if not source.is_dir():
        return None
    files = [name for name in peek_files(source) if is_image(name)]
    places = [place for name in files if (place := _place_of(name)) is not None]
    images = {(place.above, place.defect, place.name) for place in places if place.subset != _TRUTH}
    masks = [place for place in places if place.subset == _TRUTH]
    found = sum((mask.above, mask.defect, _MASK_SUFFIX.sub("", mask.name)) in images for mask in masks)
    if found:
        return Detection(0.97, f"{found} masks in ground_truth/ with images of the same name and defect")
    if (
        any(place.subset == "train" and place.defect == GOOD for place in places)
        and len({p.defect for p in places}) > 1
    ):
        return Detection(0.7, "train/good, and folders of defects")
    return None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read one category or several.

    Raises:
        FormatError: There is no image in a folder of a defect.
    """
    if not source.is_dir():
        raise FormatError(
            "this is not a folder", where=source, remedy="give the folder above train, test, ground_truth"
        )
    source = source.absolute()
    files = [name for name in list_files(source) if is_image(name)]
    placed = {name: place for name in files if (place := _place_of(name)) is not None}
    images = {name: place for name, place in placed.items() if place.subset != _TRUTH}
    if not images:
        raise FormatError(
            "there is no image in <category>/train or test/<defect>",
            where=source,
            remedy="check the folder, or --format",
        )
    masks = {_matching(place): name for name, place in placed.items() if place.subset == _TRUTH}
    for name in files:
        if name not in placed:
            losses.dropped("image files", "not in <category>/<subset>/<defect>", name)
    collector = Collector(options, losses)
    for name, place in images.items():
        category = PurePosixPath(place.above).name or source.name
        image = collector.image(
            name,
            source / name,
            split=split_name(place.subset),
            tags=[category],
            metadata={"mvtec": {"category": category}},
        )
        collector.add(image, place.defect, WHOLE_IMAGE, place=name, key="label", source=name)
        # Training images are all good; several subsets with the same names do not share a mask.
        mask = None if place.subset == "train" else masks.pop((place.above, place.defect, place.name), None)
        if mask is not None:
            _take_mask(collector, image, source / name, source, mask, place.defect, losses)
    for mask in masks.values():
        losses.dropped("masks", "there is no image of this name and defect", mask)
    return collector.records()


FORMAT = Format("mvtec", detect, read)


def _take_mask(
    collector: Collector, image: int, path: Path, source: Path, mask: str, defect: str, losses: LossReport
) -> None:
    try:
        values = load_labels(source / mask).values
    except ImageError as error:
        losses.dropped("masks", "the mask cannot be read", f"{mask}: {error.what}")
        return
    fitted = fit_to_file(values.max(axis=2) if values.ndim == 3 else values, path)
    if fitted is None:
        losses.dropped("masks", "of another size than the image", mask)
        return
    levels = values_in(fitted)
    if len(levels[levels > 0]) > 1:
        losses.converted("masks", "more than two values: all above 0 are the defect", f"{mask}: {len(levels)} values")
    inside = fitted > 0
    if not inside.any():
        losses.dropped("masks", "empty", mask)
        return
    size = (int(fitted.shape[0]), int(fitted.shape[1]))
    shape = Shape(rle=(encode_rle(inside), size))
    collector.add(image, defect, shape, place=mask, area=float(inside.sum()), key="mask", source=mask)


def _place_of(location: str) -> _Place | None:
    """The parts of '<above>/<subset>/<defect>/<name>'; None for a file that lies elsewhere."""
    folders: Sequence[str] = location.split("/")[:-1]
    if len(folders) < 2 or folders[-2].lower() not in {*_SUBSETS, _TRUTH}:
        return None
    return _Place("/".join(folders[:-2]), folders[-2].lower(), folders[-1], PurePosixPath(stem(location)).name)


def _matching(mask: _Place) -> tuple[str, str, str]:
    """What a mask has in common with its image."""
    return mask.above, mask.defect, _MASK_SUFFIX.sub("", mask.name)
