"""XML and JSON files as trees, with one kind of error for everything that can be wrong with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from curate.errors import FormatError
from curate.formats.files import decode_text

_NOT_XML: Final = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_xml(path: Path) -> Element:
    """The root of an XML file. A document type is allowed, entities and references to other files are not.

    Raises:
        FormatError: The file cannot be read, is not XML or was cut short, or declares entities.
    """
    return parse_xml(_bytes(path), path)


def parse_xml(content: bytes, where: object) -> Element:
    """The same of what is not a file; `where` names it in errors."""
    try:
        root: Element = fromstring(content, forbid_dtd=False)
    except DefusedXmlException as error:
        raise FormatError(
            "declares XML entities, which are refused",
            where=where,
            remedy="take the <!ENTITY ...> lines out and write what they stand for in their place",
        ) from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise FormatError(f"not valid XML: {error}", where=where, remedy="export it again, or mend it") from error
    return root


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, UTF-16 or Latin-1. Python's ``NaN`` and ``Infinity`` are let through as floats.

    Raises:
        FormatError: The file cannot be read, is not JSON, was cut short, or is nested too deeply.
    """
    data = _bytes(path)
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # what msgspec refuses Python may still take: NaN, a byte order mark, another encoding
    try:
        text = decode_text(data)
        tree = json.loads(text)
        # Half of a surrogate pair cannot be stored as a text.
        return json.loads(_encodable(tree)) if "\\ud" in text.lower() else tree
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not valid JSON: {error}", where=path, remedy="export it again, or mend it") from error


def xml_text(text: str) -> str:
    """A text with what XML cannot hold, or would read back as something else (a carriage return), replaced."""
    return _NOT_XML.sub("\ufffd", text)


def _encodable(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise FormatError(f"the file cannot be read: {reason}", where=path, remedy="check its permissions") from error
