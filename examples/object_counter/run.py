"""A camera in the network over two belts, a post in the way: what passes, which way, and is it the same as before?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Belt, film_frames, make_film, make_stills, network_camera
from curate.demo.conveyor import LINE, Seen
from examples.common import Row, start

POST = 0.32  # of the picture's width, where the middle of the post is


def main() -> None:
    example = start(str(__doc__), "object_counter")
    belt = Belt(labels=("gear",), size=(240, 180), lanes=2, post=True)
    stills, steps, frames, rate = (48, 90, 160, 8.0) if example.small else (160, 400, 600, 12.5)
    with example.step("render"):
        data = make_stills(example.work / "stills", {"train": stills, "val": 12}, belt=belt, seed=example.seed + 100)
        truth = make_film(example.work / "truth.avi", frames=frames, belt=belt, seed=example.seed)
        pictures = [frame.pixels for frame in film_frames(belt, frames, seed=example.seed)]

    with example.step("train"):
        example.curate("import", data / "annotations", "--images", data / "images", "-d", "belts")
        settings = ["--task", "detect", "--image-size", 96, "--set", f"steps={steps}", "--seed", example.seed]
        (trained,) = example.curate("train", "-d", "belts", *settings, "--name", "gears")
        package = example.work / "package"
        example.curate("package", "--model", "run:gears", "-d", "belts", "--output", package, "--max-drop", 0.02)

    # The camera gives its frames whether they are taken or not; when the film is over, it shows the last picture on and on.
    seen = example.work / "seen.avi"
    gates = ["--line", f"gate={LINE}", "--line", f"post={POST:.0%},0,{POST:.0%},100%", "--anchor", "centre"]
    with example.step("stream"), network_camera(pictures, rate=rate, repeat=False) as camera:
        *lines, summary = example.curate(
            "run", package, "--source", camera.url, "--seconds", frames / rate + 10, *gates, "--overlay", seen
        )

    lines = [line for line in lines if line["frame"] < frames]
    told = Counter((each["where"], each["way"]) for line in lines for each in line.get("crossings", ()))
    true = {
        "gate": Counter(str(crossing.way) for crossing in truth.crossings),
        "post": passing(truth.seen, POST * belt.size[0]),
    }
    counts = {
        where: {way: {"true": true[where][way], "counted": told[where, way]} for way in ("out", "in")} for where in true
    }
    example.finish(
        draw(seen, lines),
        [
            ("line", "way", "true", "counted"),
            *((where, way, *row.values()) for where, ways in counts.items() for way, row in ways.items()),
        ],
        counts=counts,
        identities=identities(lines, truth.seen),
        frames={name: summary[name] for name in ("offered", "skipped", "lost", "abandoned", "processed")},
        latency_ms=summary["latency_ms"],
        ap50=trained["numbers"]["mAP50"],
    )


def passing(seen: Sequence[Sequence[Seen]], line: float) -> Counter[str]:
    """How many gears are to be seen on both sides of an upright line, by the way that they go."""
    middles: dict[int, list[float]] = {}
    for gears in seen:
        for each in gears:
            middles.setdefault(each.track, []).append(each.bbox[0] + each.bbox[2] / 2)
    crossed = [each for each in middles.values() if min(each) < line < max(each)]
    return Counter("out" if each[-1] > each[0] else "in" for each in crossed)


def identities(lines: Sequence[Row], seen: Sequence[Sequence[Seen]]) -> Row:
    """How often a gear that was out of sight has the same number afterwards, and how often one in sight gets another."""
    last: dict[int, tuple[int, int]] = {}  # of each gear, the frame on which it last had a number, and which
    hidden = kept = changes = 0
    gone = {each.track: -1 for gears in seen for each in gears}  # the last frame on which it was out of sight
    for line in lines:
        there = {each.track: each for each in seen[line["frame"]]}
        gone |= {track: line["frame"] for track in gone if track not in there}
        for track, each in there.items():
            near = [
                (overlap(thing["bbox"], each.bbox), thing["track"]) for thing in line["objects"] if "track" in thing
            ]
            likeness, number = max(near, default=(0.0, 0))
            if likeness < 0.3:
                continue
            if track in last:
                frame, before = last[track]
                was_hidden = gone[track] > frame
                hidden, kept = hidden + was_hidden, kept + (was_hidden and before == number)
                changes += not was_hidden and before != number
            last[track] = line["frame"], number
    return {"followed": len(last), "hidden": hidden, "kept": kept, "changes_in_sight": changes}


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes [x, y, width, height]."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(wide, 0.0) * max(high, 0.0)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def draw(seen: Path, lines: Sequence[Row]) -> Image.Image:
    """Four moments of the film that `curate run --overlay` drew."""
    video = cv2.VideoCapture(str(seen))
    shown = []
    for at in np.linspace(0.15, 0.85, 4):
        place = int(at * (len(lines) - 1))
        video.set(cv2.CAP_PROP_POS_FRAMES, place)
        shown.append(np.pad(video.read()[1][..., ::-1], ((0, 8), (0, 8), (0, 0)), constant_values=255))
    video.release()
    return Image.fromarray(np.vstack([np.hstack(shown[:2]), np.hstack(shown[2:])]))


if __name__ == "__main__":
    main()
