"""What curate calls the files and tasks that it makes in CVAT: they are found again by these names, and by nothing else."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from curate.connectors.base import NewItem

UNFINISHED: Final = "unfinished: "
"""How the name of a task begins whose annotations are not all there yet."""

_IMAGE: Final = re.compile(r".*\.curate-([0-9a-f]{16})(?:\.\w+)?", re.DOTALL)
_TASK: Final = re.compile(r"\[curate [0-9a-f]{16}\]$")
_ENDING: Final = re.compile(r"\.[a-z0-9]{1,8}")
_ODD: Final = re.compile(r"[^\w. -]+")
_LONGEST_STEM: Final = 160
"""Bytes: with an id and an ending, what any file system takes."""
_LONGEST_TITLE: Final = 120


def file_name(item: NewItem) -> str:
    """What an image's file is called in CVAT, which keeps its name as that of the frame: unique, and with its id.

    The folder that it is in stands before its name, since CVAT takes names without folders: 'line 1/0007.jpg' is
    'line 1_0007.curate-6a0f....jpg'.
    """
    path = PurePosixPath(item.location)
    words = "_".join(part for part in (path.parent.name, path.stem) if part)
    plain = _ODD.sub(_marks, unicodedata.normalize("NFC", words)).encode()
    # What is cut off is of the folder: images of one folder differ at the end of their names.
    stem = plain[-_LONGEST_STEM:].decode(errors="ignore").strip(" .") or "image"
    endings = (suffix.lower() for suffix in (item.path.suffix, path.suffix) if _ENDING.fullmatch(suffix.lower()))
    return f"{stem}.curate-{item.image_id}{next(endings, '')}"


def image_id_of(frame: str) -> str | None:
    """The id of the image that curate uploaded under this name; None for any other."""
    match = _IMAGE.fullmatch(PurePosixPath(frame).name)
    return match[1] if match else None


def task_name(items: Sequence[NewItem]) -> str:
    """What the task of these images is called: always the same."""
    ids = "\n".join(item.image_id for item in items)
    digest = hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()
    first = " ".join("".join(each if each.isprintable() else " " for each in items[0].location).split())
    if len(first) > _LONGEST_TITLE:
        first = f"\N{HORIZONTAL ELLIPSIS}{first[1 - _LONGEST_TITLE :]}"
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{first}{more} [curate {digest}]"


def is_unfinished(task: str) -> bool:
    """Whether a task's name is that of one that curate has not filled yet."""
    return task.startswith(UNFINISHED) and _TASK.search(task) is not None


def _marks(odd: re.Match[str]) -> str:
    """The accents and vowel signs among characters that are not of words; an underscore where there are none."""
    return "".join(each for each in odd[0] if unicodedata.category(each).startswith("M")) or "_"
