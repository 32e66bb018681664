"""Which lamp lit the line, and for how long? A small ViT looks through a film: what do sampling, batches and weeding save?"""

from __future__ import annotations

import csv
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.dataset import open_dataset
from curate.demo import Belt, film_frames, make_stills
from examples.common import Example, start
from examples.vit_video.drawing import draw
from examples.vit_video.look import STAGES, look

LAMPS, SIZE, RATE, SAMPLED = ("ring", "dim", "backlight-warm"), (160, 120), 25.0, 12.5


def main() -> None:
    example = start(str(__doc__), "vit_video")
    stills, steps, shifts, length = (200, 240, 6, 60) if example.small else (500, 800, 12, 150)
    with example.step("render"):
        learn_from(example, stills)
        film, truth, moments = record(example.work / "line.avi", shifts, length, example.seed)
    with example.step("train"):
        network = ["--model", "test_vit", "--weights", "scratch", "--image-size", 64, "--batch-size", 32, "--lr", 0.001]
        settings = [*network, "--set", "augment=0", "--set", f"steps={steps}", "--seed", example.seed]
        (trained,) = example.curate("train", "-d", "stills", "--task", "classify", *settings, "--name", "vit")
    with example.step("package"):
        package = example.work / "package"
        example.curate("package", "--model", "run:vit", "-d", "stills", "--output", package, "--max-drop", 0.02)
    with example.step("weed"):
        sampled, stands_for, cost = weed(example, film)

    every, kept = range(len(truth)), [number for number in sampled if number not in stands_for]
    looks: list[tuple[str, Sequence[int], int]] = [
        (f"every frame, batches of {batch}", every, batch) for batch in (1, 4, 16)
    ]
    looks += [(f"{SAMPLED:g} a second, 16", sampled, 16), (f"{SAMPLED:g} a second, weeded, 16", kept, 16)]
    with example.step("look"):
        ways = {name: look(package, film, numbers, batch) for name, numbers, batch in looks}
        *lines, _ = example.curate("run", package, "--source", film, "--batch", 16)
    first, plain, weeded = (list(ways)[at] for at in (2, 3, 4))
    asked = {number: ways[weeded]["labels"][stands_for.get(number, number)] for number in sampled}
    answers = {
        "truth": truth, **{name: list(ways[name]["labels"].values()) for name in (first, plain)},
        weeded: list(asked.values()),
    }  # fmt: skip
    seconds = {name: lit(labels, len(truth)) for name, labels in answers.items()}
    repeats = {number for number in sampled if moments[number] in {moments[n] for n in sampled if n < number}}
    alike = sum(moments[one] == moments[other] for one, other in stands_for.items())
    example.finish(
        draw(film, ways[first]["labels"], truth, ways),
        [
            ("looked at", "frames", *STAGES, "frames/s", "right"),
            *((name, way["frames"], *way["ms"].values(), way["fps"], share(way["labels"], truth)) for name, way in ways.items()),
        ],
        top1=trained["numbers"]["top1"],
        film={"frames": len(truth), "shifts": shifts},
        weeded={"sampled": len(sampled), "repeats": len(repeats), "found": len(stands_for),
                "right": alike, "processor_ms": 1000 * cost / len(sampled)},
        ways=[{"name": n, **{k: v for k, v in way.items() if k != "labels"}, "right": share(way["labels"], truth)}
              for n, way in ways.items()],
        right={"sampled": share(ways[plain]["labels"], truth), "weeded": share(asked, truth)},
        lit=seconds,
        same={"weeded": share(asked, list(ways[first]["labels"].values())),
              "curate run": share(ways[first]["labels"], [line["label"] for line in lines])},
    )  # fmt: skip


def learn_from(example: Example, count: int) -> None:
    """Single pictures under each lamp, as many of each; a quarter more validates."""
    rows = [("file_name", "label", "split")]
    for number, lamp in enumerate(LAMPS):
        seed = 1000 * example.seed + 100 + number
        folder = example.work / "stills" / lamp
        make_stills(folder, {"train": count, "val": count // 4}, belt=Belt(size=SIZE, lamp=lamp), seed=seed)
        files = sorted((folder / "images").rglob("*.jpg"))
        rows += [(file.relative_to(folder.parent).as_posix(), lamp, file.parent.name) for file in files]
    with (table := example.work / "stills.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    example.curate("import", table, "--images", example.work / "stills", "-d", "stills")


def record(path: Path, shifts: int, length: int, seed: int) -> tuple[Path, list[str], list[tuple[int, int]]]:
    """A film of shifts, each under one lamp, in all but one of which the belt stands still for a while.

    Returns:
        The film; and of each frame its lamp, and its shift with the place of the belt: the same is a repeated picture.
    """
    rng = np.random.default_rng([seed, 50])
    codec = cv2.VideoWriter_fourcc(*"MJPG")  # type: ignore[attr-defined]  # missing in OpenCV's stubs
    writer = cv2.VideoWriter(str(path), codec, RATE, SIZE)
    truth, moments = [], []
    for shift in range(shifts):
        lamp = LAMPS[shift % len(LAMPS)]
        begins, stands = int(rng.integers(5, length // 3)), int(rng.integers(length // 3, length // 2)) * (shift > 0)
        belt = Belt(size=SIZE, lamp=lamp, halts=((begins, begins + stands),))
        for at, frame in enumerate(film_frames(belt, length, seed=1000 * seed + shift)):
            writer.write(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
            truth.append(lamp)
            moments.append((shift, at if at < begins else max(begins - 1, at - stands)))
    writer.release()
    return path, truth, moments


def weed(example: Example, film: Path) -> tuple[list[int], dict[int, int], float]:
    """Numbers of sampled frames, those of them that show nothing new with the one that shows it, and processor seconds."""
    example.curate("import", film, "--fps", SAMPLED, "-d", "day")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = example.curate("duplicates", "-d", "day", "--repetitive", "--seed", example.seed)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.environ["CURATE_HOME"] = str(example.work / "home")
    frames = open_dataset("day").table("images", columns=["location", "frame"]).to_pylist()
    number = {row["location"]: int(row["frame"]) for row in frames}
    # Findings of overlaps are of a belt that moved on; those with a similarity are of sequences.
    nothing_new = [row for row in rows if "usual_similarity" in row.get("evidence", {})]
    stands_for = {number[row["image"]]: number[row["evidence"]["keeper"]] for row in nothing_new}
    return sorted(number.values()), stands_for, after.ru_utime - before.ru_utime


def share(labels: Mapping[int, str], wanted: Sequence[str]) -> float:
    """Share of frames of which what is said is what is wanted."""
    return float(np.mean([wanted[number] == label for number, label in labels.items()]))


def lit(labels: Sequence[str], frames: int) -> dict[str, float]:
    """Seconds that each lamp was on, of frames that are spread evenly over a film."""
    return {lamp: round(labels.count(lamp) / len(labels) * frames / RATE, 2) for lamp in LAMPS}


if __name__ == "__main__":
    main()
