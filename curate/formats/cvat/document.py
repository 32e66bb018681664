"""A CVAT file, element by element: memory holds one image or track at a time, however large the file is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, EntitiesForbidden
from defusedxml.ElementTree import iterparse

from curate.errors import FormatError
from curate.formats.files import list_files, peek_files, read_head

_ROOT: Final = re.compile(r"<annotations\b")
_SIGNATURE: Final = re.compile(r"<annotations\b[^>]*>\s*(<version>|<meta>|<image\b|<track\b|$)")
_DEEPEST: Final = 32
_REMEDY: Final = "export it again, or mend it"


def is_cvat(path: Path) -> bool:
    """Whether a file begins as CVAT's do."""
    return path.suffix.lower() == ".xml" and _SIGNATURE.search(read_head(path)) is not None


def annotation_files(folder: Path, *, peek: bool = False) -> list[str]:
    """Locations of the CVAT files in a folder and those below it; with `peek`, only a look at the first few files."""
    names = peek_files(folder) if peek else list_files(folder)
    return [name for name in names if is_cvat(folder / name)]


def read_elements(path: Path) -> Iterator[Element]:
    """The children of a file's root, one after another. Each is emptied when the next is asked for.

    Raises:
        FormatError: The file cannot be read, is not XML or not CVAT's, was cut short, declares entities, or is nested too
            deeply. What came before has been given.
    """
    root: Element | None = None
    depth = 0
    try:
        for event, element in iterparse(str(path), ("start", "end"), forbid_dtd=False):
            if event == "start":
                depth += 1
                if root is None:
                    root = _checked_root(element, path)
                elif depth > _DEEPEST:
                    raise FormatError("nested too deeply", where=path, remedy="export it from CVAT again")
                continue
            depth -= 1
            if depth == 1 and root is not None:
                yield element
                root.clear()
    except EntitiesForbidden as error:
        raise FormatError("declares XML entities, which are refused", where=path, remedy=_REMEDY) from error
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not valid XML: {error}", where=path, remedy=_REMEDY) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise FormatError(f"the file cannot be read: {reason}", where=path, remedy="check its permissions") from error


def _checked_root(root: Element, path: Path) -> Element:
    if root.tag != "annotations":
        raise FormatError(
            f"the root element is <{root.tag}>, not <annotations>", where=path, remedy="give a file exported from CVAT"
        )
    return root
