"""The picture of the networks: what they say, how they learnt, and what is right by the labels that they learnt from."""

from __future__ import annotations

from typing import Any

from PIL import Image

from examples.common import Row, chart, stacked, tiles


def draw(seen: list[tuple[Any, str]], curves: list[Row], judged: dict[str, Row]) -> Image.Image:
    """Some predictions, the curves of validation, and what is right on the test split by the labels learnt from."""
    right: Row = {"field": "right", "type": "quantitative", "axis": {"format": "%"}, "scale": {"zero": False}}
    networks = {"domain": list(judged), "range": ["#2b6cb0", "#dd6b20", "#9f1239", "#2f855a"]}
    color = {"field": "network", "title": None, "scale": networks, "legend": {"symbolStrokeWidth": 5}}
    x = {"field": "epoch", "type": "quantitative"}
    lines = {
        "data": {"values": curves},
        "mark": {"type": "line", "strokeWidth": 2.5},
        "encoding": {
            "x": x, "y": {**right, "title": "right on the validation split"}, "color": color,
            "column": {"field": "labels", "sort": None, "title": None},
        },
    }  # fmt: skip
    values = [
        {"network": name, "labels": given, "right": row["top1"]}
        for name, each in judged.items()
        for given, row in each.items()
    ]
    points = {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 150, "opacity": 1},
        "encoding": {
            "x": {**right, "title": "right on the clean test split"},
            "y": {"field": "network", "sort": None, "title": None},
            "color": {"field": "labels", "sort": None, "scale": {"range": ["#2b6cb0", "#dd6b20", "#2f855a"]}},
        },
    }  # fmt: skip
    width = 520 // len({row["labels"] for row in curves})
    return stacked(tiles(seen), chart(lines, width=width), chart({**points, "height": 110}))
