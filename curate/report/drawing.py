"""Charts as files: a Vega-Lite specification to SVG or PNG, without a browser or a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from curate.files import write_atomic

_PIXELS_PER_POINT: Final = 2.0


def write_chart(spec: Mapping[str, Any], path: Path) -> None:
    """Draw a chart to a file: SVG where its name ends in '.svg', else PNG."""
    import vl_convert

    if path.suffix.lower() == ".svg":
        content = vl_convert.vegalite_to_svg(dict(spec), allowed_base_urls=[]).encode()
    else:
        content = vl_convert.vegalite_to_png(dict(spec), scale=_PIXELS_PER_POINT, allowed_base_urls=[])
    write_atomic(path, content)


def drawable(text: str) -> str:
    """A text without what no drawing can hold: on a control character, the library ends the process."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
