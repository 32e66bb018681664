"""What lies in a folder beside what was read of it: files of other formats, and images that nothing refers to.

None of it is a loss of what was imported: a set in several formats says the same in each. But nobody should believe that all
of a folder is in when part of it is not, so it is told.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.detect import surest_claim
from curate.formats.files import is_image, list_files
from curate.formats.locations import stem
from curate.formats.losses import PLACES_KEPT

_ANNOTATIONS: Final = frozenset({".json", ".jsonl", ".xml", ".csv", ".parquet"})
_LABELS: Final = ".txt"
_MOST_GROUPS: Final = 50
_LOOKED_AT: Final = 2
_END_OF_NAME: Final = re.compile(r"[_.-][^_.-]*$")


@dataclass(frozen=True)
class Unread:
    """Files in the folder that were not read.

    Attributes:
        what: What they are, in the plural.
        count: How many.
        places: The first of them, relative to the folder.
    """

    what: str
    count: int
    places: tuple[str, ...]


def find_unread(folder: Path, format: str, images: pa.Table, sources: Container[str]) -> tuple[list[Unread], list[str]]:
    """Look for what an import from a folder has left.

    Args:
        folder: What was read.
        format: Name of the format it was read as; what that reader leaves, it reports itself.
        images: Those imported, with the column `path`.
        sources: The files that images and annotations were read from, relative to the folder or the one above.

    Returns:
        What was left, and which images are left though files beside them have labels for them: their locations.
    """
    names = list_files(folder) if folder.is_dir() else []
    left = [name for name in names if name not in sources and f"{folder.name}/{name}" not in sources]
    left_images = list(_left_images(folder, left, images)) if images.num_rows else []
    stems = {PurePosixPath(stem(name)).name for name in names if is_image(name)}
    found = _by_format(folder, format, left)
    labels = [name for name in left if name.endswith(_LABELS) and PurePosixPath(name).stem in stems]
    found |= {"label files named as images": labels} if labels else {}
    labelled = {PurePosixPath(name).stem for files in found.values() for name in files}
    if left_images:
        found["images that nothing read refers to"] = left_images
    unread = [Unread(what, len(files), tuple(files[:PLACES_KEPT])) for what, files in found.items()]
    return unread, [name for name in left_images if PurePosixPath(name).stem in labelled]


def _left_images(folder: Path, left: Iterable[str], images: pa.Table) -> Iterator[str]:
    """Images that no imported one is, without those that are named after one: masks, depth maps, previews."""
    names = [name for name in left if is_image(name)]
    paths = pa.array([f"{folder}/{name}" for name in names], pa.string())
    is_known = pc.is_in(paths, value_set=images["path"].combine_chunks()).to_pylist()
    if all(is_known):
        return
    stems = {PurePosixPath(stem(location)).name for location in images["location"].to_pylist()}
    stems |= {each.removesuffix("_leftImg8bit") for each in stems}  # Cityscapes: ..._gtFine_labelIds.png
    for name, known in zip(names, is_known, strict=True):
        if not known and not any(each in stems for each in _shortened(PurePosixPath(stem(name)).name)):
            yield name


def _shortened(name: str) -> Iterator[str]:
    """A name, and what is left of it as one part after another is taken from its end."""
    yield name
    while (shorter := _END_OF_NAME.sub("", name)) != name:
        yield shorter
        name = shorter


def _by_format(folder: Path, format: str, left: Iterable[str]) -> dict[str, list[str]]:
    """Annotation files that another format would read; the first few of each kind in each folder answer for the rest."""
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in left:
        path = PurePosixPath(name)
        if path.suffix.lower() in _ANNOTATIONS:
            groups[str(path.parent), path.suffix.lower()].append(name)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for files in islice(groups.values(), _MOST_GROUPS):
        claims = [claim for name in files[:_LOOKED_AT] if (claim := surest_claim(folder / name))]
        if claims and format not in claims:
            found[f"annotation files of the format {claims[0]}"] += files
    return dict(found)
