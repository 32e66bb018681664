"""Weights files: where they are, and telling one version of them from another."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from curate.errors import InputError
from curate.models.content import content_hashes

WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".pt", ".pth", ".bin"})
"""File endings taken for weights of torch."""

NAME_DIGITS: Final = 8
"""How much of a key stands in names, which people read and type.

There it tells the versions of one path from one another: two of them are taken for the same once in four billion pairs. What
many files share, such as the folder of exports, goes by the whole key.
"""

_KEY_BYTES: Final = 16


def weights_key(*paths: Path, named: bool = False) -> str:
    """32 hexadecimal digits that change with any byte of some files.

    A file is read whole, since training may leave any part of it as it was (frozen layers do). That is done once: what it held
    is kept by its place, size and times (`curate.models.content`).

    Args:
        paths: The files; their order counts.
        named: Whether their names count too, as in a folder where the names decide what is read.

    Raises:
        InputError: A file cannot be read.
    """
    places = [str(path.absolute()) for path in paths]
    distinct = list(dict.fromkeys(places))
    held = dict(zip(distinct, content_hashes(distinct).to_pylist(), strict=True))
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for path, place in zip(paths, places, strict=True):
        if held[place] is None:
            raise InputError("the file cannot be read", where=path, remedy="check that it is there and may be read")
        name = path.name if named else ""
        digest.update(f"{name}\0{held[place]}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def weights_digest(*paths: Path) -> str:
    """The digits of `weights_key` that stand in names."""
    return weights_key(*paths)[:NAME_DIGITS]


def located(path: str) -> Path:
    """A path as it reads from every working folder: names of encoders are remembered, and used from elsewhere.

    A link to a file stays a link: in the hub's cache it has the ending that says what is in the file, which has none itself.

    Raises:
        InputError: It begins with the home of a user that is not known, or links lead in a circle.
    """
    try:
        given = Path(path).expanduser()
        return given.resolve() if given.is_dir() else given.parent.resolve() / given.name
    except (OSError, RuntimeError) as error:
        raise InputError(f"the path leads nowhere: {error}", where=path) from error
