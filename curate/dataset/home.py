"""Where datasets live: one folder each under ``$CURATE_HOME/datasets`` (default: the platform's user data folder)."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

import platformdirs

from curate.errors import DatasetNotFound, UsageError

HOME_VARIABLE: Final = "CURATE_HOME"
HEAD: Final = "HEAD"

_NAME = re.compile(r"\w[\w.\-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows, with any ending
_TRASH = ".removed-"


def home() -> Path:
    """The folder that holds everything curate keeps; not necessarily there yet."""
    chosen = os.environ.get(HOME_VARIABLE)
    return (
        Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_data_dir("curate", appauthor=False))
    )


def datasets_folder() -> Path:
    """The folder that has a folder for each dataset; not necessarily there yet."""
    return home() / "datasets"


def cache_folder() -> Path:
    """The folder of what datasets share and may be deleted at any time; not necessarily there yet."""
    return home() / "cache"


def dataset_path(name: str) -> Path:
    """The folder of a dataset, which need not exist.

    Raises:
        UsageError: The name could not be a folder's on every system.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be a dataset's name",
            remedy="letters, digits, '_', '-' and '.', not beginning with '-' or '.', at most 100 characters",
        )
    if _RESERVED.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be a dataset's name", remedy="another name: this one is a device's on Windows"
        )
    return datasets_folder() / name


def exists(name: str) -> bool:
    """Whether a dataset of that name has at least one commit."""
    return (dataset_path(name) / HEAD).is_file()


def dataset_names() -> list[str]:
    """Names of all datasets, sorted; none if their folder is not there.

    Raises:
        UsageError: The folder cannot be read, or is none.
    """
    try:
        paths = list(datasets_folder().iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"the datasets cannot be listed: {error.strerror}",
            where=datasets_folder(),
            remedy=f"set {HOME_VARIABLE} to a folder that may be read and written",
        ) from error
    return sorted(path.name for path in paths if (path / HEAD).is_file() and not path.name.startswith("."))


def not_found(name: str) -> DatasetNotFound:
    """The error for a dataset that is not there; names what is."""
    names = ", ".join(dataset_names()[:20]) or "none yet"
    return DatasetNotFound(
        f"there is no dataset named '{name}'",
        where=datasets_folder(),
        remedy=f"datasets here: {names}; make one with 'curate import SOURCE --dataset {name}'",
    )


def removed_before() -> list[Path]:
    """Folders of removed datasets that an interrupted removal left behind."""
    return list(datasets_folder().glob(f"{_TRASH}*"))


def move_to_trash(path: Path) -> Path:
    """Rename a dataset's folder out of sight, in one step; returns where it is now."""
    hidden = trash_for(path)
    path.rename(hidden)
    return hidden


def trash_for(path: Path) -> Path:
    """Where a dataset's folder goes when it is removed; nothing is there."""
    return path.with_name(f"{_TRASH}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
