"""Locations: names of images inside a dataset, relative to its root, with forward slashes and never leaving it.

How names from outside become locations, which split they speak of, and what exported files are called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from curate.formats.losses import LossReport

NO_SPLIT: Final = "unsplit"
"""Folder of exported images that have no split, where others have one."""

_SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LAYOUT_FOLDERS: Final = frozenset({"images", "imgs", "jpegimages", "obj_train_data", "obj_valid_data"})


def split_name(text: str) -> str | None:
    """The split that a folder or file is named after ('valid' and 'validation' are 'val'), or None if it is not one."""
    name = text.strip().lower()
    return _SPLITS.get(name) or _SPLITS.get(re.sub(r"(?<=[a-z])[_-]?\d{4}$", "", name))


def split_of(location: str) -> str | None:
    """The split told by the first two folders of a location: 'train/images/a.jpg', 'images/val/a.jpg'."""
    for folder in location.split("/")[:-1][:2]:
        name = split_name(folder)
        if name is not None:
            return name
        if folder.lower() not in _LAYOUT_FOLDERS:
            return None
    return None


def safe_location(text: str) -> str:
    """A file name from outside as a location: forward slashes, relative, no '..' and no drive; may be empty."""
    parts = re.split(r"[\\/]+", text.strip())
    if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
        parts = parts[1:]
    return "/".join(part for part in parts if part not in {"", ".", ".."})


def match_location(text: str, known: frozenset[str] | set[str]) -> str | None:
    """The known location that a file name from outside ends with: '/home/me/set/images/a.jpg' -> 'images/a.jpg'."""
    location = safe_location(text)
    while location not in known:
        _, slash, location = location.partition("/")
        if not slash:
            return None
    return location


def stem(location: str) -> str:
    """A location without its file ending."""
    name = location[location.rfind("/") + 1 :]
    dot = name.rfind(".")
    return location[: len(location) - len(name) + dot] if 0 < dot < len(name) - 1 else location


def export_names(
    locations: Sequence[str], splits: Sequence[str | None], losses: LossReport, *, by_stem: bool = False
) -> list[str]:
    """Names of exported images inside their split's folder: the location without the source's own layout, made unique.

    Args:
        locations: n locations ('train/images/a/b.jpg').
        splits: Their splits.
        losses: A name that had to change is reported.
        by_stem: Names must differ without their endings too, since each has a label file beside it.

    Returns:
        n names ('a/b.jpg'), unique within a split, also where upper and lower case are the same.
    """
    names = [strip_layout(location, split) for location, split in zip(locations, splits, strict=True)]
    folders = split_folders(splits)
    placed = unique_names([folder + name for folder, name in zip(folders, names, strict=True)], losses, by_stem=by_stem)
    return [name.removeprefix(folder) for folder, name in zip(folders, placed, strict=True)]


def strip_layout(location: str, split: str | None) -> str:
    """A location without the leading folders that only say what an export says anew: 'images', the split's name."""
    *folders, name = safe_location(location).split("/")
    return "/".join([*_inner_folders(folders, split), name])


def unique_names(names: Sequence[str], losses: LossReport, *, by_stem: bool = False) -> list[str]:
    """Make n file names differ, also where upper and lower case are the same, by a number at the end.

    Args:
        names: With forward slashes.
        losses: A name that had to change is reported.
        by_stem: They must differ without their endings too.
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}  # the last that was given to each name, so that many of one name are not tried anew
    unique = []
    for name in names:
        first = key = (stem(name) if by_stem else name).lower()
        candidate, number = name, numbers.get(first, 1)
        while key in taken:
            start = stem(name)
            number += 1
            candidate = f"{start}_{number}{name[len(start) :]}"
            key = (stem(candidate) if by_stem else candidate).lower()
        taken.add(key)
        numbers[first] = number
        if number > 1:
            losses.converted("images", "renamed: another image has the same name", f"{name} -> {candidate}")
        unique.append(candidate)
    return unique


def split_folders(splits: Sequence[str | None]) -> list[str]:
    """The folder of each image's split, as a prefix: 'train/', or '' if no image has a split; another for each split."""
    if not any(splits):
        return [""] * len(splits)
    names = split_names([split for split in splits if split], taken=[NO_SPLIT])
    return [f"{names[split] if split else NO_SPLIT}/" for split in splits]


def split_names(splits: Iterable[str | None], *, taken: Sequence[str] = ()) -> dict[str, str]:
    """A name of a file or folder for each split, another for each; 'val' keeps its own, whoever else would have it.

    Args:
        splits: Some of them more than once, perhaps.
        taken: Names of other files or folders.
    """
    named = sorted(
        {split for split in splits if split is not None}, key=lambda split: (split_name(split) != split, split)
    )
    return dict(zip(named, unique_names([*taken, *map(file_name, named)], LossReport())[len(taken) :], strict=True))


def report_splits(splits: Iterable[str | None], read: Callable[[str], str | None], losses: LossReport) -> None:
    """Report the splits that are not read again as they are.

    Args:
        splits: Some of them more than once, perhaps.
        read: What is made of a split's name when an export is read: another name, or None for no split.
        losses: Gets one entry for each such split.
    """
    for split in sorted({split for split in splits if split is not None}):
        back = read(split)
        if back != split:
            losses.converted("splits", "the name is not told there", f"{split} -> {back or 'no split'}")


def file_name(text: str) -> str:
    """A text as the name of one file or folder, on any system."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text).rstrip(". ") or "_"
    return f"{name}_" if name in {".", ".."} else name


def _inner_folders(folders: list[str], split: str | None) -> Iterator[str]:
    leading, split_seen = True, False
    for folder in folders:
        is_split = folder in {split, NO_SPLIT} or (split is not None and split_name(folder) == split)
        if leading and is_split and not split_seen:
            split_seen = True
        elif leading and folder.lower() in _LAYOUT_FOLDERS:
            continue
        else:
            leading = False
            yield folder
