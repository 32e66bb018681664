"""The picture of the example: what was seen, and what each stage took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from examples.common import Row, chart, stacked, tiles
from examples.vit_video.look import STAGES


def draw(film: Path, labels: Mapping[int, str], truth: Sequence[str], ways: Mapping[str, Row]) -> Image.Image:
    """Six frames of a film, cut square, with the answers, and what each stage takes."""
    shown = []
    video = cv2.VideoCapture(str(film))
    for number in np.linspace(0, len(truth), 6, endpoint=False, dtype=int).tolist():
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        pixels = np.asarray(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB), np.uint8)
        beside = (pixels.shape[1] - pixels.shape[0]) // 2
        wrong = "" if labels[number] == truth[number] else f"\n(is: {truth[number]})"
        shown.append((pixels[:, beside:-beside], labels[number] + wrong))
    video.release()
    bars = {
        "height": {"step": 24}, "mark": "bar", "data": {"values": [
            {"way": f"{name}: {way['fps']:,} frames/s", "stage": stage, "ms": ms, "order": STAGES.index(stage)}
            for name, way in ways.items() for stage, ms in way["ms"].items()
        ]},
        "encoding": {
            "y": {"field": "way", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
            "x": {"field": "ms", "type": "quantitative", "title": "processor milliseconds for a frame of the film"},
            "color": {"field": "stage", "title": None, "sort": list(STAGES)}, "order": {"field": "order"},
        },
    }  # fmt: skip
    return stacked(tiles(shown), chart(bars, width=330))
