"""One device that reads a part's serial number and looks for defects on it: how fast, how well, and does it notice a new lamp?"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo.scratched import make_scratched
from curate.demo.serials import ALPHABET, Plates, draw_plates, draw_serial, draw_text
from curate.models.reading import Reader, train_reader
from curate.runner import Runner
from examples.common import Example, Row, start
from examples.inspection_station.drawing import draw
from examples.inspection_station.station import Station, make_parts, milliseconds, summed

LAMP, NEW_LAMP = {"ring": 1.0}, {"backlight-warm": 1.0}
TEST, RELIT_TEST = "test", "exam"
WINDOW, LIMIT = 20, 0.8  # parts; their mean drift, which is 0.5 where nothing has changed


def main() -> None:
    example = start(str(__doc__), "inspection_station")
    side, learnt, tested = (96, 64, 40) if example.small else (128, 240, 120)
    with example.step("render"):
        plates, later = (
            make_scratched(example.work / name, counts, side=side, lamps=lamp, seed=example.seed)
            for name, lamp, counts in (
                ("plates", LAMP, {"train": learnt, "val": 24, TEST: tested}),
                ("later", NEW_LAMP, {"relit": learnt // 2, RELIT_TEST: tested}),
            )
        )
        parts = [
            make_parts(each, split, serials(example, tested, number), np.random.default_rng([example.seed, number]))
            for number, (each, split) in enumerate(((plates, TEST), (later, RELIT_TEST)))
        ]
    with example.step("train"):
        example.curate("import", plates.root / "annotations", "--images", plates.root / "images", "-d", "station")
        package, compressed = learn(example, "first", side)
        weights = train_reader(
            example.work / "reader.onnx", lambda rng, count: drawn(example, rng, count), alphabet(example),
            steps=150 if example.small else 1500, batch=32, seed=example.seed,
        )  # fmt: skip

    station = Station(Runner(package), Reader(example.work / "reader.onnx"))
    with example.step("inspect"):
        station.warm_up(parts[0][0])
        alone = [station.inspect(part, overlapped=False) for part in parts[0]]
        told = [[station.inspect(part) for part in lot] for lot in parts]
    alarms = [alarm([row["drift"] for row in lot]) for lot in told]

    quality = None
    if alarms[1] is not None:
        with example.step("round"):
            quality = retrain(example, package, later.root, side)
    example.finish(
        draw(parts, told),
        [("lot", "serials read", "decided rightly", "alarm at part", "ms p50", "ms p95"),
         *((name, *summed(lot, told[row]).values(), alarms[row] or "none", *milliseconds(told[row]).values())
           for row, (name, lot) in enumerate(zip(("ring lamp", "new lamp"), parts, strict=True)))],
        lots=[summed(lot, rows) for lot, rows in zip(parts, told, strict=True)],
        ms={"alone": milliseconds(alone), "overlapped": milliseconds(told[0])},
        alarms=alarms,
        compressed=compressed,
        reader={"weights": weights},
        round=quality,
    )  # fmt: skip


def alphabet(example: Example) -> str:
    return "0123456789" if example.small else ALPHABET


def serials(example: Example, count: int, lot: int) -> list[str]:
    """What is printed on a lot's labels; in the small form six digits, which are learnt sooner."""
    rng = np.random.default_rng([example.seed, 3, lot])
    return [f"{rng.integers(10**6):06d}" if example.small else draw_serial(rng) for _ in range(count)]


def drawn(example: Example, rng: np.random.Generator, count: int) -> tuple[Plates, list[str]]:
    """Labels that the reader learns from."""
    texts = [f"{rng.integers(10**6):06d}" if example.small else draw_text(rng) for _ in range(count)]
    return draw_plates(texts, rng), texts


def learn(example: Example, name: str, side: int) -> tuple[Path, Row]:
    """A segmenter, made INT8 and packaged."""
    settings = ["--task", "segment", "--image-size", side, "--epochs", 9 if example.small else 12, "--amp", "--empty"]
    options = ["--set", "flips=any", "--where", "split NOT IN ('test', 'exam')", "--seed", example.seed]
    example.curate("train", "-d", "station", *settings, *options, "--name", name)
    int8 = ["--methods", "quantise", "--max-drop", 0.1, "--name", f"{name}-int8"]
    rows = example.curate("compress", "--model", f"run:{name}", "-d", "station", *int8)
    package = example.work / name
    held = ["--splits", "val", "--max-drop", 0.1, "--output", package]
    example.curate("package", "--model", f"run:{name}-int8", "-d", "station", *held)
    return package, rows[-1]


def alarm(drifts: Sequence[float]) -> int | None:
    """The part at which the mean drift of the last ones is more than it may be; None for never."""
    last: deque[float] = deque(maxlen=WINDOW)
    for number, drift in enumerate(drifts, 1):
        last.append(drift)
        if len(last) == WINDOW and np.mean(last) > LIMIT:
            return number
    return None


def retrain(example: Example, package: Path, later: Path, side: int) -> Row:
    """A round: hard frames come back, a person labels plates under the new lamp, and a model learns from all of them."""
    ring = example.work / "ring"
    example.curate("run", package, "--source", later / "images" / "relit", "--harvest", ring)
    example.curate("import", f"harvest://{ring}", "-d", "production")
    kept = len(example.curate("findings", "-d", "production"))
    example.curate("import", later / "annotations", "--images", later / "images", "-d", "station")
    if example.small:
        return {"hard_frames": kept}
    learn(example, "second", side)
    judged = example.curate(
        "run", example.work / "second", "--against", package, "--labels", "station", "--splits", RELIT_TEST
    )
    return {"hard_frames": kept, "against": judged[-1]}


if __name__ == "__main__":
    main()
