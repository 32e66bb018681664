"""What smaller models cost and lose: as a table on a terminal, and drawn as a frontier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.report.drawing import drawable, write_chart
from curate.report.terminal import console, print_table

if TYPE_CHECKING:
    from curate.edge.compress.frontier import Candidate
    from curate.edge.compress.search import Compressed

_CHOSEN: Final = "#c03a2b"
_ON: Final = "#2a6fb0"
_OFF: Final = "#b0b0b0"
_KINDS: Final = ("chosen", "frontier", "other")


def print_compressed(result: Compressed) -> None:
    """Print all candidates, which of them are worth having, and which was kept."""
    out = console()
    out.print(f"{result.parent}, judged by {result.images}; {result.runtime}, one thread", soft_wrap=True)
    out.print()
    on = {each.name for each in result.frontier}
    print_table(
        [_row(each, result, on) for each in sorted(result.candidates, key=lambda each: each.size)],
        right={"size", "ms", result.candidates[0].scores.metric, "lost", "worst slice"},
    )
    out.print()
    if result.run is not None and result.chosen is not None:
        print_chosen(result, result.chosen)
    elif result.nearest is not None:
        out.print(f"nothing holds the budget; the nearest is '{result.nearest.name}':", soft_wrap=True)
        for line in result.budget.refusals(result.nearest):
            out.print(f"    {line}", soft_wrap=True)


def print_chosen(result: Compressed, chosen: Candidate) -> None:
    """Print what was kept, and how it does on images that had no part in choosing it."""
    out = console()
    original = result.candidates[0]
    out.print(
        f"kept '{chosen.name}': {_times(original.size / chosen.size)} smaller, "
        f"{_times(original.seconds / chosen.seconds)} faster, {chosen.drops.overall:.4f} {chosen.scores.metric} lost",
        soft_wrap=True,
    )
    if result.confirmed is not None:
        out.print(
            f"on {result.confirmed.images} of the test split, which chose nothing: {result.confirmed.drops.overall:.4f} lost",
            soft_wrap=True,
        )
    if result.run is not None:
        out.print(f"use it: --model run:{result.run.name}", soft_wrap=True)


def draw_compressed(result: Compressed, path: Path) -> None:
    """Draw accuracy against time, with the size of the file as the size of the dot, to an SVG or PNG file."""
    write_chart(compressed_spec(result), path)


def compressed_spec(result: Compressed) -> dict[str, Any]:
    """The chart as Vega-Lite has it."""
    on = {each.name for each in result.frontier}
    metric = result.candidates[0].scores.metric
    values = [_plotted(each, result, on) for each in result.candidates if each.scores.overall is not None]
    x = {"field": "latency", "type": "quantitative", "title": "CPU time of an image, ms", "scale": {"zero": True}}
    y = {"field": "accuracy", "type": "quantitative", "title": metric, "scale": {"zero": False}}
    points = {
        "mark": {"type": "point", "filled": True, "opacity": 0.9, "tooltip": True},
        "encoding": {
            "x": x,
            "y": y,
            "size": {"field": "size", "type": "quantitative", "title": "MB", "scale": {"range": [30, 600]}},
            "color": {
                "field": "kind",
                "type": "nominal",
                "title": None,
                "scale": {"domain": list(_KINDS), "range": [_CHOSEN, _ON, _OFF]},
            },
        },
    }
    names = {
        "transform": [{"filter": "datum.kind !== 'other'"}],
        "mark": {"type": "text", "align": "left", "dx": 12, "fontSize": 10},
        "encoding": {"x": x, "y": y, "text": {"field": "name"}},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": "white",
        "title": {"text": drawable(result.parent), "anchor": "start"},
        "width": 560,
        "height": 320,
        "data": {"values": values},
        "layer": [points, names],
        "config": {"font": "sans-serif"},
    }


def _row(each: Candidate, result: Compressed, on: set[str]) -> Mapping[str, Any]:
    worst = each.drops.worst_slice()
    chosen = result.chosen is not None and each.name == result.chosen.name
    return {
        "": "kept" if chosen else ("*" if each.name in on else ""),
        "model": each.name,
        "size": f"{each.size / 1e6:.2f} MB",
        "ms": f"{1000 * each.seconds:.2f}",
        each.scores.metric: "-" if each.scores.overall is None else f"{each.scores.overall:.4f}",
        "lost": f"{each.drops.overall:.4f}",
        "worst slice": "" if worst is None else f"{worst[1]:.4f} {worst[0]}",
        "budget": "holds" if not result.budget.refusals(each) else "breaks",
    }


def _plotted(each: Candidate, result: Compressed, on: set[str]) -> dict[str, Any]:
    chosen = result.chosen is not None and each.name == result.chosen.name
    return {
        "name": drawable(each.name),
        "kind": "chosen" if chosen else "frontier" if each.name in on else "other",
        "size": each.size / 1e6,
        "latency": None if math.isnan(each.seconds) else 1000 * each.seconds,
        "accuracy": each.scores.overall,
    }


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times"
