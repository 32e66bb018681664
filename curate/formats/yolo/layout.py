"""Which files make up a YOLO dataset: images, their label files and splits.

The layouts are those of Ultralytics' dataset documentation, of Darknet, and what CVAT (YOLO 1.1), Roboflow and Label Studio
export.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from curate.formats.base import ReadOptions
from curate.formats.files import decode_text, is_image, list_files
from curate.formats.locations import match_location, safe_location, split_of, stem
from curate.formats.losses import LossReport
from curate.formats.yolo.config import Config, list_lines, read_config

LABEL_FOLDERS: Final = ("labels", "labelTxt", "Annotations", "annotations")

NO_LABEL_FILE: Final = '{"yolo":{"label_file":false}}'
"""Metadata of an image that has no label file, not even an empty one."""


@dataclass(frozen=True)
class Layout:
    """The files of a dataset; the lists have one entry for each image.

    Attributes:
        config: What its own files say.
        root: What the locations are relative to.
        locations: Of the images.
        paths: Of the images; None for one that a list names and nobody has.
        labels: Location of each image's label file, or where it would be.
        label_paths: The label file; None for a background image.
        splits: As the configuration, or else the folders, tell.
        orphans: Label files without an image.
    """

    config: Config
    root: Path
    locations: list[str]
    paths: list[Path | None]
    labels: list[str]
    label_paths: list[Path | None]
    splits: list[str | None]
    orphans: list[Path]


def find_layout(source: Path, options: ReadOptions, losses: LossReport) -> Layout:
    """Find the files of a dataset.

    Args:
        source: Its folder, its data.yaml or obj.data.
        options: `images` is a folder of images that lie elsewhere; `split` holds for all.
        losses: What is named and not there, or there and not named.

    Raises:
        FormatError: There are no images, or a configuration file cannot be read.
    """
    config = read_config(source)
    folders, lists = _resolve_splits(config, losses)
    root, files = _scan(config, folders, lists)
    known = frozenset(files)
    images = [name for name in files if is_image(name)]
    splits = _splits_from_folders(root, images, folders)
    _splits_from_lists(splits, root, images, lists, losses)
    if options.images is not None and not options.images.absolute().is_relative_to(root):
        return _with_images_elsewhere(config, root, known, options)
    labels = {image: _label_of(image, known) for image in splits}
    if config.splits:
        _leave_out_unlisted(splits, labels, known, losses)
    used = {label for label in labels.values() if label in known}
    places = list(splits)
    return Layout(
        config=config,
        root=root,
        locations=places,
        paths=[root / place if place in known else None for place in places],
        labels=[labels[place] for place in places],
        label_paths=[root / labels[place] if labels[place] in known else None for place in places],
        splits=[options.split or splits[place] for place in places],
        orphans=list(_orphans(config, root, files, used, lists)),
    )


# --------------------------------------------------------------------------------------------------- splits and images


def _resolve_splits(config: Config, losses: LossReport) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Folders of images, and files that list images, by split."""
    folders: dict[str, list[Path]] = {}
    lists: dict[str, list[Path]] = {}
    for split, entries in config.splits.items():
        for entry in entries:
            path = _resolve(entry, config)
            if path is None:
                losses.converted(
                    "splits", "a folder or list that is not there", f"{config.folder.name}: {split}: {entry}"
                )
            else:
                (folders if path.is_dir() else lists).setdefault(split, []).append(path)
    return folders, lists


def _resolve(entry: str, config: Config) -> Path | None:
    """A path as data.yaml writes it: relative to `path`, to the file, with Roboflow's stray '../', or from elsewhere."""
    inner = safe_location(entry)
    tails = [inner.split("/", start)[start] for start in range(inner.count("/") + 1)]
    swapped = [re.sub(r"\bval(id)?\b", lambda m: "val" if m[1] else "valid", tail) for tail in tails[:1]]
    for base in dict.fromkeys((config.base, config.folder)):
        for candidate in (entry, *tails, *swapped):
            path = Path(os.path.normpath(base / candidate))
            # A folder above the dataset is no split of it.
            if candidate and path.exists() and (path == config.folder or not config.folder.is_relative_to(path)):
                return path
    return None


def _scan(config: Config, folders: Mapping[str, list[Path]], lists: Mapping[str, list[Path]]) -> tuple[Path, list[str]]:
    """The root, and every file that may belong to the dataset, relative to it."""
    inside = list_files(config.folder)
    named = dict.fromkeys(folder for group in folders.values() for folder in group)
    outside = [folder for folder in named if not folder.is_relative_to(config.folder)]
    listed = _listed_outside(config, lists, frozenset(inside))
    if not outside and not listed:
        return config.folder, inside
    root = Path(os.path.commonpath([config.folder, *outside, *(path.parent for path in listed)]))
    for folder in list(outside):
        location = folder.relative_to(root).as_posix()
        outside += [root / PurePosixPath(place).parent for place in _label_candidates(f"{location}/x")]
    found = {_below(root, config.folder / name) for name in inside}
    for folder in dict.fromkeys(outside):
        if folder.is_dir():
            found.update(_below(root, folder / name) for name in list_files(folder))
    for path in listed:
        location = _below(root, path)
        found.add(location)
        found.update(place for place in _label_candidates(location) if (root / place).is_file())
    return root, sorted(found)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _listed_outside(config: Config, lists: Mapping[str, list[Path]], inside: frozenset[str]) -> list[Path]:
    """Images that lists name and that lie outside the dataset's folder."""
    found: dict[Path, None] = {}
    for path in (path for group in lists.values() for path in group):
        for line in filter(None, map(str.strip, list_lines(path))):
            if match_location(line, inside) is None:
                places = (Path(os.path.normpath(base / line)) for base in (path.parent, config.base))
                found.update((place, None) for place in places if is_image(line) and place.is_file())
    return list(found)


def _splits_from_folders(root: Path, images: list[str], folders: Mapping[str, list[Path]]) -> dict[str, str | None]:
    """Each image's split. A folder that several splits name (an unsplit dataset must say something) tells nothing."""
    by_prefix: dict[str, set[str]] = {}
    for split, group in folders.items():
        for folder in group:
            by_prefix.setdefault(folder.relative_to(root).as_posix(), set()).add(split)
    splits: dict[str, str | None] = {}
    for image in images:
        named = next((by_prefix[parent] for parent in _parents(image) if parent in by_prefix), None)
        if named is None:
            splits[image] = split_of(image)
        else:
            splits[image] = next(iter(named)) if len(named) == 1 else None
    return splits


def _parents(location: str) -> Iterator[str]:
    while "/" in location:
        location = location.rpartition("/")[0]
        yield location
    yield "."


def _splits_from_lists(
    splits: dict[str, str | None], root: Path, images: list[str], lists: Mapping[str, list[Path]], losses: LossReport
) -> None:
    known = frozenset(images)
    listed: dict[str, str] = {}
    for split, path in ((split, path) for split, group in lists.items() for path in group):
        for number, line in enumerate(map(str.strip, list_lines(path)), 1):
            if not line:
                continue
            location = _listed_location(line, path.parent, root, known)
            if location not in known:
                reason = "listed, but not there; kept without a file"
                losses.converted("images", reason, f"{path.name}:{number}: {line}")
            if location and listed.setdefault(location, split) != split:
                losses.converted("images", "in several splits; the first is kept", f"{path.name}:{number}")
    splits.update(listed)


def _listed_location(line: str, folder: Path, root: Path, known: frozenset[str]) -> str:
    """The image that a line of a list means: relative to the list, else the known one whose path ends like it."""
    exact = os.path.relpath(os.path.join(folder, line), root).replace(os.sep, "/")  # noqa: PTH118 - a million times
    return exact if exact in known else match_location(line, known) or safe_location(line)


def _leave_out_unlisted(
    splits: dict[str, str | None], labels: Mapping[str, str], known: frozenset[str], losses: LossReport
) -> None:
    """Pictures beside the dataset (a logo, a training plot) are not images of it."""
    for image in list(splits):
        in_images = "images" in image.lower().split("/")[:-1]
        if splits[image] is None and labels[image] not in known and not in_images:
            del splits[image]
            losses.dropped("images", "in no split and no images folder, and without labels", image)


# --------------------------------------------------------------------------------------------------- label files


def _label_of(image: str, known: frozenset[str]) -> str:
    """Where an image's labels are, or would be."""
    candidates = list(_label_candidates(image))
    return next((place for place in candidates if place in known), candidates[0])


def _label_candidates(image: str) -> Iterator[str]:
    """The last 'images' folder replaced by 'labels' (or its kin), then beside the image."""
    parts = stem(image).split("/")
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].lower() == "images":
            for folder in LABEL_FOLDERS:
                yield "/".join([*parts[:place], folder, *parts[place + 1 :]]) + ".txt"
            break
    yield "/".join(parts) + ".txt"


def _orphans(
    config: Config, root: Path, files: list[str], used: set[str], lists: Mapping[str, list[Path]]
) -> Iterator[Path]:
    not_labels = config.files | {path for group in lists.values() for path in group}
    folders = {label.rpartition("/")[0] for label in used}
    for name in files:
        if not name.lower().endswith(".txt") or name in used or root / name in not_labels:
            continue
        folder = name.rpartition("/")[0]
        if (folder in folders or "labels" in folder.split("/")) and _begins_with_number(root / name):
            yield root / name


def _begins_with_number(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(r"\s*\d+[ \t]+[-\d.]", decode_text(file.read(200))) is not None


def _with_images_elsewhere(config: Config, root: Path, known: frozenset[str], options: ReadOptions) -> Layout:
    """Labels here, images in another folder: matched by the path below both, else by a name that only one file has."""
    assert options.images is not None
    folder = options.images.absolute()
    locations = [name for name in list_files(folder) if is_image(name)]
    by_name: dict[str, list[str]] = {}
    for name in known:
        if name.lower().endswith(".txt") and root / name not in config.files:
            by_name.setdefault(PurePosixPath(name).stem, []).append(name)
    labels, found = [], []
    for location in locations:
        inner = f"{stem(location)}.txt"
        same = by_name.get(PurePosixPath(location).stem, [])
        label = next((place for place in (f"labels/{inner}", inner) if place in known), None)
        label = label or (same[0] if len(same) == 1 else None)
        labels.append(label or f"labels/{inner}")
        found.append(None if label is None else root / label)
    used = set(labels)
    return Layout(
        config=config,
        root=folder,
        locations=locations,
        paths=[folder / location for location in locations],
        labels=labels,
        label_paths=found,
        splits=[
            options.split or split_of(location) or split_of(label)
            for location, label in zip(locations, labels, strict=True)
        ],
        orphans=[root / name for group in by_name.values() for name in group if name not in used],
    )
