"""Screws pass on a conveyor: how many, and how fast can a small computer count them?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Belt, Film, make_film, make_stills
from curate.demo.conveyor import LINE
from examples.common import Row, chart, stacked, start

STAGES = ("decode", "pre-process", "inference", "post-process")


def main() -> None:
    example = start(str(__doc__), "screw_counter")
    belt = Belt(labels=("bolt",), size=(240, 180))
    stills, steps, frames = (48, 100, 200) if example.small else (160, 400, 1000)
    with example.step("render"):
        data = make_stills(example.work / "stills", {"train": stills, "val": 12}, belt=belt, seed=example.seed + 100)
        film = make_film(example.work / "line.avi", frames=frames, belt=belt, seed=example.seed)

    with example.step("train"):
        example.curate("import", data / "annotations", "--images", data / "images", "-d", "belt")
        settings = ["--task", "detect", "--image-size", 96, "--set", f"steps={steps}", "--seed", example.seed]
        (trained,) = example.curate("train", "-d", "belt", *settings, "--name", "screws")
    with example.step("package"):
        package = example.work / "package"
        example.curate("package", "--model", "run:screws", "-d", "belt", "--output", package, "--max-drop", 0.02)

    # On a computer with curate: tracks, a counting line, and a film of what was seen.
    with example.step("run"):
        seen = example.work / "seen.avi"
        gate = ["--line", f"gate={LINE}", "--anchor", "centre"]
        *lines, summary = example.curate("run", package, "--source", film.path, *gate, "--overlay", seen)
    # On one without: the package, numpy, Pillow and onnxruntime.
    with example.step("count alone"):
        alone = count_alone(package, film.path)

    counts = {
        "curate run": compare([line["frame"] for line in lines for _ in line.get("crossings", ())], film),
        "onnxruntime alone": compare(alone["crossings"], film),
    }
    crossing = counts["curate run"]["frames"]
    moments = [crossing[at * len(crossing) // 3] for at in range(3)] if crossing else [0]
    example.finish(
        draw(seen, moments, alone),
        [
            ("counted by", "screws", "counted", "missed", "too many", "frames off at most"),
            *((name, *list(row.values())[:5]) for name, row in counts.items()),
        ],
        counts=counts,
        way=summary["things"]["gate"],
        ap50=trained["numbers"]["mAP50"],
        alone=alone,
    )


def count_alone(package: Path, film: Path) -> Row:
    """What count.py says, in a process of its own on one thread."""
    script = Path(__file__).with_name("count.py")
    done = subprocess.run([sys.executable, str(script), str(package), str(film)], capture_output=True, check=True)
    told: Row = json.loads(done.stdout)
    return told


def compare(frames: Sequence[int], film: Film, slack: int = 8) -> Row:
    """Crossings that were counted, by their frames, with those that there were: each goes with the next one in time."""
    true = [crossing.frame for crossing in film.crossings]
    free, off = list(true), []
    for frame in frames:
        nearest = min(free, key=lambda each: abs(each - frame), default=None)
        if nearest is not None and abs(nearest - frame) <= slack:
            free.remove(nearest)
            off.append(abs(nearest - frame))
    return {
        "true": len(true), "counted": len(frames), "missed": len(free), "extra": len(frames) - len(off),
        "off": max(off, default=0), "frames": list(frames),
    }  # fmt: skip


def draw(seen: Path, moments: Sequence[int], alone: Row) -> Image.Image:
    """Frames just after a crossing, as `curate run --overlay` drew them, and what each stage takes of a frame."""
    shown = []
    video = cv2.VideoCapture(str(seen))
    for frame in moments:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        shown.append(np.pad(video.read()[1][..., ::-1], ((0, 8), (0, 8), (0, 0)), constant_values=255))
    video.release()
    bars = {
        "title": f"onnxruntime alone, one thread: {alone['fps']:.0f} frames a second",
        "height": 110,
        "data": {"values": [{"stage": name, "ms": ms} for name, ms in alone["ms"].items()]},
        "mark": "bar",
        "encoding": {
            "y": {"field": "stage", "type": "nominal", "title": None, "sort": list(STAGES)},
            "x": {"field": "ms", "type": "quantitative", "title": "processor milliseconds a frame"},
        },
    }
    return stacked(Image.fromarray(np.hstack(shown)), chart(bars, width=630))


if __name__ == "__main__":
    main()
