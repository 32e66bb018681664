"""The page: our own HTML, style and scripts, with the data as JSON; nothing in it is fetched or can be.

Every text from the dataset comes in as JSON that no parser of HTML takes for an end of its element, and is put into the page as
text by the scripts. A content security policy lets only our own script and style run, by their hashes, and no address be asked.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from curate.report.html.charts import Chart

GENERATOR: Final = "curate report"
"""Content of the page's meta element of that name: by it an older report is known."""

SCRIPTS: Final = ("base.js", "decide.js", "filter.js", "cards.js", "keys.js", "sections.js", "map.js", "main.js")
"""In the order in which they run, as one."""

_PLACE: Final = re.compile(r"\{\{([a-z-]+)\}\}")


def make_page(title: str, data: Mapping[str, Any], charts: Mapping[str, Sequence[Chart]]) -> str:
    """Put a page together.

    Args:
        title: Of the page.
        data: What the scripts show, JSON-ready.
        charts: By the place they go to: 'classes', 'confusion', 'taken', 'spread', 'models' or 'robustness'.
    """
    style = _read("page.css")
    script = "(() => {\n'use strict';\n" + "\n".join(_read(f"js/{name}") for name in SCRIPTS) + "\n})();"
    numbered = [chart for group in charts.values() for chart in group]
    parts = {
        "title": html.escape(title),
        "generator": GENERATOR,
        "policy": _policy(script, style),
        "style": style,
        "script": script,
        "data": as_json({**data, "charts": [chart.to_json() for chart in numbered]}),
    }
    for place, group in charts.items():
        parts[f"charts-{place}"] = "\n".join(_figure(chart, numbered.index(chart)) for chart in group)
    return _PLACE.sub(lambda match: parts.get(match.group(1), ""), _read("page.html"))


def as_json(value: Any) -> str:
    """JSON in plain ASCII in which no character means anything to a parser of HTML."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def is_report(head: bytes) -> bool:
    """Whether a file that begins so is a page of ours."""
    return f'name="generator" content="{GENERATOR}"'.encode() in head


def _figure(chart: Chart, number: int) -> str:
    """The place of a chart; its words and its table are put in as text by a script."""
    return f'<figure class="chart" data-chart="{number}">{chart.svg}</figure>'


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("curate.report.html").joinpath(name).read_text(encoding="utf-8")
