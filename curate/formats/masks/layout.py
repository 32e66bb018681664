"""Which files of a folder are images, which are masks, and which mask belongs to which image.

A mask is called as its image, perhaps with a prefix or suffix that says what it is ('x.jpg' and 'x_mask.png',
'image_0001.png' and 'gt_0001.png'), and lies beside it or in a folder whose name differs only in what says that these are
images and those are masks ('train/images' and 'train/masks', 'images/train' and 'annotations/train', CamVid's 'train' and
'trainannot').
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from curate.formats.files import is_image
from curate.formats.mask_images import MASK_SUFFIXES

_MASK_FOLDERS: Final = frozenset(
    {
        "annot", "annotation", "annotations", "annots", "ann", "anns", "ann_dir", "ground_truth", "groundtruth", "gt",
        "gtleft", "label", "labels", "labels_semantic", "mask", "masks", "seg", "segmentation", "segmentationclass",
        "segmentations", "semantic", "semseg",
    }
)  # fmt: skip
_IMAGE_FOLDERS: Final = frozenset(
    {"images", "image", "imgs", "img", "img_dir", "jpegimages", "leftimg8bit", "image_2", "rgb", "rgbleft"}
)
_OTHER_FOLDERS: Final = frozenset({"depth", "depthleft", "instance", "instances", "segmentationobject"})
_FOLDER_SUFFIX: Final = re.compile(r"(?<=.)([_-]?annot|[_-](masks?|labels?))$", re.IGNORECASE)
_MASK_SUFFIX: Final = re.compile(r"(?<=.)[_-](masks?|seg|labels?|gt|labelids|labeltrainids|l|annot)$", re.IGNORECASE)
_PREFIX: Final = re.compile(r"^(masks?|seg|labels?|gt|images?|img)[_-](?=.)", re.IGNORECASE)
_ANYWHERE: Final = "\0"

_Key = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The files of a folder of masks.

    Attributes:
        images: Locations of images, sorted.
        masks: The mask of each image that has one.
        orphans: Masks without an image, with the location that their image would have.
        ambiguous: Masks that several images, or an image that has one already, could have.
        others: Images in folders of depth maps and of instances.
    """

    images: Sequence[str]
    masks: dict[str, str]
    orphans: dict[str, str]
    ambiguous: Sequence[str]
    others: Sequence[str]


def find_layout(files: Iterable[str], images_elsewhere: Sequence[str] | None = None) -> Layout:
    """Sort files into images and masks, and pair them.

    Args:
        files: Locations below the source.
        images_elsewhere: Locations of the images, where they lie in another folder; those among `files` are then masks.
    """
    every = [name for name in files if is_image(name)]
    others = [name for name in every if _folder_of(name).is_other]
    pictures = [name for name in every if not _folder_of(name).is_other]
    if images_elsewhere is not None:
        return _pair(images_elsewhere, pictures, others)
    stems = {_without_ending(name) for name in pictures}
    masks = [name for name in pictures if _is_in_mask_folder(name) or _is_beside_image(name, stems)]
    known = set(masks)
    return _pair([name for name in pictures if name not in known], masks, others)


def is_mask_name(location: str) -> bool:
    """Whether a file name ends as a mask's: 'x_mask.png'."""
    return _MASK_SUFFIX.search(_name_of(location)) is not None


@dataclass(frozen=True)
class _Folder:
    """What the folders of a file say: those that images and masks have in common, and what the rest is for."""

    place: _Key
    is_mask: bool
    is_other: bool


def _pair(images: Sequence[str], masks: Sequence[str], others: Sequence[str]) -> Layout:
    exact, loose = _index(images, _exact_keys), _index(images, _loose_keys)
    found: dict[str, str] = {}
    orphans: dict[str, str] = {}
    ambiguous = []
    for mask in masks:
        keys = _keys_of_mask(mask)
        candidates = next((index[key] for index in (exact, loose) for key in keys if key in index), None)
        if candidates is None:
            location = "/".join(["images", *keys[1]]) + ".png"
            if orphans.setdefault(location, mask) != mask:
                ambiguous.append(mask)
        elif len(candidates) > 1 or candidates[0] in found:
            ambiguous.append(mask)
        else:
            found[candidates[0]] = mask
    return Layout(images, found, {mask: location for location, mask in orphans.items()}, ambiguous, others)


def _index(images: Sequence[str], keys: Callable[[str], Iterable[_Key]]) -> dict[_Key, list[str]]:
    found: dict[_Key, list[str]] = {}
    for name in images:
        for key in set(keys(name)):
            found.setdefault(key, []).append(name)
    return found


def _exact_keys(image: str) -> list[_Key]:
    """An image's folders and name; and its name alone, for masks that all lie in one folder."""
    own = _name_of(image)
    return [(*_folder_of(image).place, own), (_ANYWHERE, own)]


def _loose_keys(image: str) -> list[_Key]:
    place = _folder_of(image).place
    return [(*place, short) for short in _shorter(_name_of(image))]


def _keys_of_mask(mask: str) -> list[_Key]:
    """Under which keys a mask's image may be found, the surest first."""
    place, own = _folder_of(mask).place, _name_of(mask)
    names = [own, *_shorter(own)]
    # Either may have folders that the other has not; that both have different ones means something.
    return [(*place, name) for name in names] + [((name,) if place else (_ANYWHERE, name)) for name in names]


def _shorter(name: str) -> list[str]:
    short = _MASK_SUFFIX.sub("", name)
    return [short, _PREFIX.sub("", short)]


def _is_in_mask_folder(location: str) -> bool:
    return _folder_of(location).is_mask and _ending(location) in MASK_SUFFIXES | {".jpg", ".jpeg"}


def _is_beside_image(location: str, stems: set[str]) -> bool:
    own = _without_ending(location)
    short = _MASK_SUFFIX.sub("", own)
    return short != own and short in stems


def _folder_of(location: str) -> _Folder:
    return _folder(location.rpartition("/")[0])


@lru_cache(maxsize=65_536)
def _folder(folders: str) -> _Folder:
    names = folders.split("/") if folders else []
    lower = {name.lower() for name in names}
    place = [_FOLDER_SUFFIX.sub("", name) for name in names if name.lower() not in _MASK_FOLDERS | _IMAGE_FOLDERS]
    is_mask = bool(lower & _MASK_FOLDERS) or any(_FOLDER_SUFFIX.search(name) for name in names)
    return _Folder(tuple(place), is_mask, bool(lower & _OTHER_FOLDERS))


# A million files are told apart: `pathlib` would take most of the time.
def _name_of(location: str) -> str:
    return _without_ending(location.rpartition("/")[2])


def _without_ending(location: str) -> str:
    return os.path.splitext(location)[0]  # noqa: PTH122


def _ending(location: str) -> str:
    return os.path.splitext(location)[1].lower()  # noqa: PTH122
