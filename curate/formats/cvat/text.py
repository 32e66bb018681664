"""Text that XML can hold."""

from __future__ import annotations

import re
from typing import Final

# A carriage return is a character of XML, but would be read back as a line feed.
_NOT_XML: Final = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """A text with what XML cannot hold replaced."""
    return _NOT_XML.sub("\ufffd", text)
