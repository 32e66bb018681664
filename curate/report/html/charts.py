"""Charts as SVG, drawn by Vega-Lite (Satyanarayan et al. 2017), which `vl-convert-python` carries: no browser, no network.

A chart in the page is therefore a few kilobytes of drawing that no script has to run for, in the page's own colors, light and
dark. What Vega-Lite gives is written anew from a list of known elements and attributes, so that whatever a class is called, it
stays a text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final
from unicodedata import east_asian_width
from xml.etree import ElementTree

import defusedxml.ElementTree

Rows = Sequence[Mapping[str, Any]]

COLORS: Final = tuple(f"var(--series-{number})" for number in range(1, 7))
"""Of the series of a chart; the page's style sheet gives them."""

_WIDTH: Final = 300
_WIDEST_NAME: Final = 20
_SVG: Final = "{http://www.w3.org/2000/svg}"
_ELEMENTS: Final = frozenset({"svg", "g", "path", "rect", "line", "text", "circle"})
_ATTRIBUTES: Final = frozenset(
    {
        *(
            "viewBox",
            "width",
            "height",
            "x",
            "y",
            "x1",
            "x2",
            "y1",
            "y2",
            "dx",
            "dy",
            "d",
            "r",
            "cx",
            "cy",
            "transform",
        ),
        *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-miterlimit", "stroke-dasharray"),
        *("opacity", "text-anchor", "font-size", "font-weight", "display"),
    }
)
# What XML 1.0 cannot hold, and what ends a line in it.
_UNDRAWABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
# Long names are shortened here: the library's own way to do so cuts letters beyond the first plane in two, and fails on them.
_CONFIG: Final[Mapping[str, Any]] = {
    "background": None,
    "font": "system-ui",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.15,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 0,
    },
    "legend": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "labelFontSize": 12,
        "labelLimit": 0,
        "orient": "top",
        "title": None,
    },
    "range": {"category": list(COLORS)},
    "mark": {"color": COLORS[0]},
}


@dataclass(frozen=True)
class Chart:
    """A chart, and the numbers in it for those who read rather than look.

    Attributes:
        title: Its heading.
        caption: What it shows, and what the numbers come to, in a sentence.
        svg: The drawing: safe to be put into a page as it is.
        columns: Headings of the table.
        rows: Its cells.
    """

    title: str
    caption: str
    svg: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_json(self) -> dict[str, Any]:
        """All but the drawing, JSON-ready."""
        return {"title": self.title, "caption": self.caption, "columns": list(self.columns), "rows": list(self.rows)}


def bar_chart(rows: Rows, *, title: str, unit: str, caption: str) -> Chart:
    """Bars side by side by name, in the order of the rows, each of one part or several.

    Args:
        rows: Values name, part, value and says.
        title: Of the chart.
        unit: Of the values.
        caption: What it shows.
    """
    short = _shortened([row["name"] for row in rows])
    parts = list(dict.fromkeys(row["part"] for row in rows))
    series = _shortened(parts)
    values = [
        {**row, "name": short[row["name"]], "part": series[row["part"]], "place": parts.index(row["part"])}
        for row in rows
    ]
    spec = {
        "data": {"values": values},
        "mark": "bar",
        "height": {"step": 18},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "value", "type": "quantitative", "title": unit, "aggregate": "sum"},
            "description": {"field": "says"},
            "detail": {"field": "says"},
            **({"color": {"field": "part", "type": "nominal", "sort": None}} if len(parts) > 1 else {}),
            "order": {"field": "place", "type": "quantitative"},
        },
    }
    table = [[row["name"], row["part"], row["value"]] for row in rows]
    return Chart(title, caption, _draw(spec), ["name", "part", unit], table)


def histogram(counts: Sequence[int], edges: Sequence[float], *, title: str, unit: str, caption: str) -> Chart:
    """How often values lie between edges, one more than there are counts."""
    values = [
        {"low": low, "high": high, "count": count, "says": f"{low:.4g} to {high:.4g}: {count:,}"}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    spec = {
        "data": {"values": values},
        "mark": {"type": "bar", "binSpacing": 1},
        "height": 150,
        "encoding": {
            "x": {"field": "low", "bin": {"binned": True}, "title": unit, "axis": {"format": ".4~r", "tickCount": 6}},
            "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "title": "images", "axis": {"tickMinStep": 1}},
            "description": {"field": "says"},
        },
    }
    table = [[f"{each['low']:.4g}", f"{each['high']:.4g}", each["count"]] for each in values]
    return Chart(title, caption, _draw(spec), ["from", "to", "images"], table)


def heatmap(
    cells: Rows, *, title: str, caption: str, row: str, column: str, value: str, written: str = ".2~g"
) -> Chart:
    """Values of pairs of names, the larger the darker.

    Args:
        cells: Values row, column, value and says.
        title: Of the chart.
        caption: What it shows.
        row: What the rows are.
        column: What the columns are.
        value: What the values are.
        written: How they are written: a format of D3.
    """
    short = _shortened([cell[key] for cell in cells for key in ("row", "column")])
    names = sorted(set(short.values()))
    encoding = {
        "y": {"field": "row", "type": "nominal", "title": row, "scale": {"domain": names}},
        "x": {"field": "column", "type": "nominal", "title": column, "scale": {"domain": names}},
    }
    spec = {
        "data": {"values": [{**cell, "row": short[cell["row"]], "column": short[cell["column"]]} for cell in cells]},
        "width": {"step": 34},
        "height": {"step": 24},
        "encoding": encoding,
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "currentColor", "strokeOpacity": 0.25},
                "encoding": {
                    "opacity": {
                        "field": "value",
                        "type": "quantitative",
                        "scale": {"range": [0.08, 0.55], "zero": True},
                        "legend": None,
                    },
                    "description": {"field": "says"},
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11, "color": "currentColor"},
                "encoding": {"text": {"field": "value", "format": written}},
            },
        ],
    }
    table = [[cell["row"], cell["column"], cell["value"]] for cell in cells]
    return Chart(title, caption, _draw(spec), [row, column, value], table)


def line_chart(
    rows: Rows, *, title: str, caption: str, x: str, y: str, tick: float = 1, from_zero: bool = False
) -> Chart:
    """Lines with points, one for each series.

    Args:
        rows: Values x, y, series and says.
        title: Of the chart.
        caption: What it shows.
        x: What goes to the right.
        y: What goes up.
        tick: Between two ticks to the right at least.
        from_zero: Whether what goes up starts at 0.
    """
    short = _shortened([row["series"] for row in rows])
    spec = {
        "data": {"values": [{**row, "series": short[row["series"]]} for row in rows]},
        "mark": {"type": "line", "point": True},
        "height": 170,
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": x,
                "axis": {"tickMinStep": tick},
                "scale": {"zero": False},
            },
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": from_zero}},
            "color": {"field": "series", "type": "nominal", "sort": None},
            "description": {"field": "says"},
        },
    }
    table = [[row["x"], row["series"], row["y"]] for row in rows]
    return Chart(title, caption, _draw(spec), [x, "series", y], table)


def clean(svg: str) -> str:
    """A drawing with nothing in it but known elements and attributes, its descriptions as tooltips.

    Args:
        svg: What a drawing library gave.
    """
    ElementTree.register_namespace("", _SVG[1:-1])
    root = _cleaned(defusedxml.ElementTree.fromstring(svg))
    if root is None:
        raise ValueError("this is no SVG")
    # Its size follows the page's; screen readers have the table of numbers instead.
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _cleaned(element: Any) -> Any:
    name = str(element.tag).removeprefix(_SVG)
    if name not in _ELEMENTS or element.get("display") == "none":
        return None
    kept = ElementTree.Element(
        f"{_SVG}{name}", {key: value for key, value in element.attrib.items() if key in _ATTRIBUTES}
    )
    kept.text = element.text if name == "text" else None
    if element.get("aria-label") and name in {"path", "rect", "circle"}:
        ElementTree.SubElement(kept, f"{_SVG}title").text = element.get("aria-label")
    for child in element:
        part = _cleaned(child)
        if part is not None:
            kept.append(part)
    return None if name == "g" and not len(kept) else kept


def _draw(spec: Mapping[str, Any]) -> str:
    import vl_convert

    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": _WIDTH,
        **_drawable(spec),
        "config": _CONFIG,
    }
    # No address may be asked for data: there are none in the chart, and none may come in by a name.
    return clean(vl_convert.vegalite_to_svg(whole, allowed_base_urls=[]))


def _drawable(value: Any) -> Any:
    """A value without what no drawing can hold: on a control character, the library ends the process."""
    if isinstance(value, str):
        return _UNDRAWABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {key: _drawable(each) for key, each in value.items()}
    return [_drawable(each) for each in value] if isinstance(value, list) else value


def _shortened(names: Sequence[str]) -> dict[str, str]:
    """Names that fit beside an axis, no two alike: Vega-Lite draws equal names as one."""
    short: dict[str, str] = {}
    for name in dict.fromkeys(names):
        cut = _cut(name)
        again = sum(other == cut or other.startswith(f"{cut} (") for other in short.values())
        short[name] = f"{cut} ({again + 1})" if again and cut != name else cut
    return short


def _cut(name: str) -> str:
    """A name's beginning, if it is too wide; letters of East Asia and pictures are twice as wide as others."""
    ends = list(accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in name))
    if not ends or ends[-1] <= _WIDEST_NAME:
        return name
    return f"{name[: bisect_right(ends, _WIDEST_NAME - 1)]}…"
