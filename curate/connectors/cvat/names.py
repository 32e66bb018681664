"""What curate calls the files and tasks that it makes in CVAT: they are found again by these names, and by nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from curate.connectors.base import NewItem

UNFINISHED: Final = "unfinished: "
"""How the name of a task begins whose annotations are not all there yet."""

_IMAGE: Final = re.compile(r".*\.curate-([0-9a-f]{16})(?:\.\w+)?", re.DOTALL)
_TASK: Final = re.compile(r"\[curate [0-9a-f]{16}\]$")
_ODD: Final = re.compile(r"[^\w. -]+", re.ASCII)
_LONGEST: Final = 100


def file_name(item: NewItem) -> str:
    """What an image's file is called in CVAT, which keeps its name as that of the frame: unique, and with its id."""
    path = PurePosixPath(item.location)
    stem = _ODD.sub("_", path.stem)[:_LONGEST].strip(" .") or "image"
    return f"{stem}.curate-{item.image_id}{item.path.suffix.lower() or path.suffix.lower()}"


def image_id_of(frame: str) -> str | None:
    """The id of the image that curate uploaded under this name; None for any other."""
    match = _IMAGE.fullmatch(PurePosixPath(frame).name)
    return match[1] if match else None


def task_name(items: Sequence[NewItem]) -> str:
    """What the task of these images is called: always the same."""
    ids = "\n".join(item.image_id for item in items)
    digest = hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()
    first = _ODD.sub("_", items[0].location)[:_LONGEST]
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    return f"{first}{more} [curate {digest}]"


def is_unfinished(task: str) -> bool:
    """Whether a task's name is that of one that curate has not filled yet."""
    return task.startswith(UNFINISHED) and _TASK.search(task) is not None
