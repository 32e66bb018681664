"""Parts as the station sees them, and how the drift rises when the lamp changes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from curate.imaging import Pixels
from examples.common import Row, chart, stacked, tiles
from examples.inspection_station.station import Part


def draw(lots: Sequence[Sequence[Part]], told: Sequence[Sequence[Row]]) -> Image.Image:
    """Three parts of each lot, and the drift of all."""
    shown = [
        (_both(part), f"{row['serial']}: {row['decision']}\n{row['ms']:.0f} ms, drift {row['drift']:.2f}")
        for lot, rows in zip(lots, told, strict=True)
        for part, row in list(zip(lot, rows, strict=True))[:3]
    ]
    drifts = [row["drift"] for rows in told for row in rows]
    values = [
        {"part": number, "drift": drift, "lamp": "ring" if number <= len(told[0]) else "new"}
        for number, drift in enumerate(drifts, 1)
    ]
    points = {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.8},
        "encoding": {
            "x": {"field": "part", "type": "quantitative", "title": "part"},
            "y": {"field": "drift", "type": "quantitative", "title": "drift"},
            "color": {"field": "lamp", "sort": ["ring", "new"], "scale": {"range": ["#2b6cb0", "#c05621"]}},
        },
    }
    return stacked(tiles(shown, side=140, columns=3), chart(points, width=360))


def _both(part: Part) -> Pixels:
    """Both cameras' pictures below one another."""
    surface, label = (Image.open(BytesIO(data)).convert("RGB") for data in (part.surface, part.label))
    width = 240
    high = width * label.height // label.width
    whole = Image.new("RGB", (width, width + high))
    whole.paste(surface.resize((width, width)), (0, 0))
    whole.paste(label.resize((width, high)), (0, width))
    return np.asarray(whole)
