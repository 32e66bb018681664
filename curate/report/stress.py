"""Accuracy against severity, on a terminal and as a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.errors import UsageError
from curate.files import writable_file
from curate.report.drawing import drawable, write_chart
from curate.report.terminal import console, print_table
from curate.wording import counted

if TYPE_CHECKING:
    from curate.augment.stress.curves import Curve, Point, Stress

SUFFIXES: Final = (".svg", ".png")
"""Endings of the files that a chart can be drawn to."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_COLUMNS: Final = 4
_WIDTH: Final = 170
_HEIGHT: Final = 110
_LINE: Final = "#2a6fb0"
_BROKEN: Final = "#c03a2b"
_CLEAN: Final = "#666666"
_DOTS: Final = [4, 3]


def print_stress(result: Stress) -> None:
    """Print a table of all corruptions, and what breaks the model."""
    out = console()
    clean = result.clean
    out.print(
        f"{result.dataset}, commit {result.commit}: {result.model} against {result.layer}, {result.task}, {result.chosen}",
        soft_wrap=True,
    )
    out.print(f"{result.metric} of the images as they are: {_with_interval(clean)}", soft_wrap=True)
    out.print()
    rows = [_row(curve, clean) for curve in result.curves]
    if rows:
        print_table(rows, right={name for name in rows[0] if name[0].isdigit()} | {"kept", "breaks at"})
        out.print()
    broken = result.broken
    share = f"{result.max_drop:.0%} of the clean {result.metric}"
    if not broken:
        out.print(f"nothing costs more than {share} beyond chance")
        return
    out.print(f"{counted(len(broken), 'corruptions')} cost more than {share}, beyond chance; the first to break:")
    for curve in broken[:3]:
        covered = f"curate augment --recipe {curve.recipes[0]}" if curve.recipes else "no recipe that comes with curate"
        out.print(f"    {curve.corruption} from severity {curve.breaks_at:g}; covered by: {covered}", soft_wrap=True)


def sparkline(values: Sequence[float | None], highest: float) -> str:
    """Values as bars from 0 to the highest, a space where there is none."""
    if highest <= 0:
        return " " * len(values)
    last = len(_BARS) - 1
    return "".join(" " if each is None else _BARS[round(min(max(each / highest, 0), 1) * last)] for each in values)


def require_drawable(path: Path) -> None:
    """See that a chart can be drawn to a file, before there is one.

    Raises:
        UsageError: It has another ending, its folder is not there, or there is something that is no file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"a chart is no '{path.suffix}' file", where="--chart", remedy=f"one of: {', '.join(SUFFIXES)}"
        )
    if not writable_file(path).absolute().parent.is_dir():
        raise UsageError("the folder of the chart is not there", where=path, remedy="make it first")


def draw_stress(result: Stress, path: Path) -> None:
    """Draw a panel for each corruption, with intervals, to an SVG or PNG file."""
    write_chart(stress_spec(result), path)


def stress_spec(result: Stress) -> dict[str, Any]:
    """The chart as Vega-Lite has it: value against severity, the clean value and where too much is lost as lines."""
    clean = result.clean.value
    values = [
        {"corruption": curve.corruption, "broken": curve.sure, **_plotted(each)}
        for curve in result.curves
        for each in (result.clean, *curve.points)
        if each.value is not None
    ]
    limit = None if clean is None else clean * (1 - result.max_drop)
    y = {"field": "value", "type": "quantitative", "title": result.metric, "scale": {"domainMin": 0}}
    x = {"field": "severity", "type": "quantitative", "title": "severity", "axis": {"tickCount": 5}}
    color = {
        "field": "broken",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": [False, True], "range": [_LINE, _BROKEN]},
    }
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
        },
        {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": y, "color": color}},
        *([] if clean is None else [_rule(clean, []), _rule(limit, _DOTS)]),
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": "white",
        "title": {"text": drawable(f"{result.model} on {result.dataset}"), "anchor": "start"},
        "data": {"values": values},
        "facet": {
            "field": "corruption",
            "type": "nominal",
            "title": None,
            "sort": [c.corruption for c in result.curves],
        },
        "columns": _COLUMNS,
        "spec": {"width": _WIDTH, "height": _HEIGHT, "layer": layers},
        "config": {"font": "sans-serif", "header": {"labelFontSize": 12}},
    }


def _rule(value: float | None, dash: Sequence[int]) -> dict[str, Any]:
    mark = {"type": "rule", "color": _CLEAN, "strokeDash": list(dash), "strokeWidth": 1}
    return {"mark": mark, "encoding": {"y": {"datum": value}}}


def _plotted(point: Point) -> dict[str, Any]:
    low, high = (point.value if end is None else end for end in (point.low, point.high))
    return {"severity": point.severity, "value": point.value, "low": low, "high": high}


def _row(curve: Curve, clean: Point) -> Mapping[str, Any]:
    values = [each.value for each in curve.points]
    return {
        "corruption": curve.corruption,
        "clean to 1": sparkline([clean.value, *values], max(clean.value or 0.0, 1e-9)),
        **{f"{each.severity:g}": _number(each.value) for each in curve.points},
        "kept": "-" if curve.kept is None else f"{curve.kept:.0%}",
        "breaks at": "-" if curve.breaks_at is None else f"{curve.breaks_at:g}{'' if curve.sure else '?'}",
        "recipes": ", ".join(curve.recipes) if curve.breaks_at is not None else "",
    }


def _with_interval(point: Point) -> str:
    if point.low is None or point.high is None:
        return _number(point.value)
    return f"{_number(point.value)} ({point.low:.3f} to {point.high:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
