"""How long a report of a large dataset takes, how large it is, and how it opens and scrolls in a browser.

The dataset is made: rows of images that share some thousand real pictures, eight objects on each, measures, vectors, and
findings of five kinds with neighbours. `curate report` runs in a process of its own. The browser is headless Chromium without a
graphics card: it opens the file from disk, and turns the wheel through the findings while the time between frames is taken.

    python -m benchmarks.report_page [--images 100000] [--findings 5000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.report import Report, markdown, options, run
from curate.checks.findings import Finding, Related, to_table
from curate.checks.measures.table import MEASURES
from curate.dataset import begin
from curate.dataset.home import HOME_VARIABLE
from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES, embeddings_schema
from curate.report.html.distributions import MEASURED

SIZE: Final = (640, 480)
OBJECTS: Final = 8
CLASSES: Final = [f"class {number:02d}" for number in range(20)]
KINDS: Final = ("mislabeled", "missing", "spurious", "mislocated", "blurry")
DIMENSIONS: Final = 128
WHEEL: Final = 120
"""Pixels of one turn."""

_COMMAND: Final = """
import sys
from curate.cli import main
sys.argv = ["curate", "report", "--dataset", "large", "--output", sys.argv[1], "--json"]
main()
"""
_FRAMES: Final = """(turns) => new Promise((resolve) => {
  const times = [];
  let last = performance.now();
  const frame = (now) => {
    times.push(now - last);
    last = now;
    scrollBy(0, turns);
    if (times.length < 240) requestAnimationFrame(frame);
    else resolve(times.slice(2));
  };
  requestAnimationFrame(frame);
})"""


def main() -> None:
    """Make the dataset, report it, open the report."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--findings", type=int, default=5_000)
    parser.add_argument("--pictures", type=int, default=2_000, help="files that the images share")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """One row of figures."""
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[HOME_VARIABLE] = str(folder / "home")
        make_dataset(folder, arguments.images, arguments.findings, arguments.pictures)
        row = {"images": arguments.images, "findings": arguments.findings, **report(folder / "report.html")}
        row |= browse(folder / "report.html", notes)
    notes.append(f"the machine was shared: load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    settings = {name: getattr(arguments, name) for name in ("images", "findings", "pictures")}
    return Report(settings, [row], markdown(list(row), [list(row.values())]), notes)


def report(path: Path) -> dict[str, Any]:
    """Run the command; seconds by the clock and of CPU, memory, size."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-c", _COMMAND, str(path)], check=True, capture_output=True, text=True)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout)
    return {
        "cards": told["findings"],
        "with pictures": told["pictures"],
        "MB": round(told["bytes"] / 1e6, 2),
        "wall s": round(wall, 1),
        "CPU s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak MB": round(after.ru_maxrss / 1024),
    }


def browse(path: Path, notes: list[str]) -> dict[str, Any]:
    """Open the page and scroll; milliseconds."""
    try:
        from tests.servers.browser import running_browser

        with running_browser() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            started = time.monotonic()
            page.goto(path.as_uri())
            page.wait_for_selector(".card", state="attached")
            opened = time.monotonic() - started
            page.evaluate("document.getElementById('findings').scrollIntoView()")
            page.wait_for_selector(".card .body")
            frames = np.array(page.evaluate(_FRAMES, WHEEL))
            started = time.monotonic()
            page.fill("#by-text", "blurred 7")
            filtered = time.monotonic() - started
    except BaseException as error:
        if type(error).__name__ not in {"Skipped", "Failed", "ImportError"}:
            raise
        notes.append(f"no browser: {error}")
        return {}
    return {
        "opens in ms": round(1000 * opened),
        "frame ms, median": round(float(np.median(frames)), 1),
        "95%": round(float(np.quantile(frames, 0.95)), 1),
        "longest": round(float(frames.max()), 1),
        "filters in ms": round(1000 * filtered),
    }


def make_dataset(folder: Path, images: int, findings: int, pictures: int) -> None:
    """The dataset 'large'."""
    rng = np.random.default_rng(0)
    paths = [_picture(folder / f"{number}.jpg", rng) for number in range(min(pictures, images))]
    locations = [f"line {number % 7}/{number:07d}.jpg" for number in range(images)]
    ids = image_ids(locations)
    annotation_ids = pa.array([f"{number:016x}" for number in range(images * OBJECTS)])
    boxes = np.concatenate(
        [rng.uniform(0, 400, (images * OBJECTS, 2)), rng.uniform(20, 80, (images * OBJECTS, 2))], axis=1
    )
    labels = rng.integers(0, len(CLASSES), images * OBJECTS)
    with begin("large", command="curate import large", create=True) as transaction:
        transaction.classes[:] = [{"name": name} for name in CLASSES]
        columns = {
            "image_id": ids,
            "location": locations,
            "path": [paths[number % len(paths)] for number in range(images)],
            "width": np.full(images, SIZE[0]),
            "height": np.full(images, SIZE[1]),
            "split": np.array(["train", "val", "test"])[rng.choice(3, images, p=[0.7, 0.15, 0.15])],
        }
        transaction.append("images", [_table(columns, IMAGES)])
        columns = {
            "annotation_id": annotation_ids,
            "image_id": ids.take(pa.array(np.repeat(np.arange(images), OBJECTS))),
            "layer": ["ground_truth"] * (images * OBJECTS),
            "type": ["box"] * (images * OBJECTS),
            "label": np.array(CLASSES)[labels],
            "bbox": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
        }
        transaction.append("annotations", [_table(columns, ANNOTATIONS)])
        found = _findings(locations, ids.to_pylist(), boxes, labels, findings, rng)
        transaction.append("findings", [to_table(found)])
        schema = embeddings_schema(DIMENSIONS)
        centres = rng.normal(size=(30, DIMENSIONS))
        vectors = (centres[rng.integers(0, 30, images)] + 0.3 * rng.normal(size=(images, DIMENSIONS))).astype(
            np.float16
        )
        space = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSIONS)
        transaction.append("embeddings/made-images", [pa.table([ids, ids, space], schema=schema)], schema)
        names = [axis.column for axis in MEASURED]
        schema = pa.schema([("id", pa.string()), *((name, pa.float32()) for name in names)])
        values = [pa.array(rng.beta(2, 5, images).astype(np.float32)) for _ in names]
        transaction.append(f"{MEASURES.prefix}-images", [pa.table([ids, *values], schema=schema)], schema)


def _picture(path: Path, rng: np.random.Generator) -> str:
    """A photograph's worth of detail: clouds of several sizes, and grain."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3))
    for cells, strength in ((4, 90), (16, 50), (64, 30)):
        coarse = rng.normal(0, 1, (cells * 3 // 4, cells, 3))
        scaled = Image.fromarray((coarse.clip(-2, 2) * 60 + 128).astype(np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        pixels += (np.asarray(scaled, dtype=np.float64) - 128) * strength / 60
    pixels += 128 + rng.normal(0, 5, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return str(path)


def _findings(
    locations: list[str], ids: list[str], boxes: Any, labels: Any, count: int, rng: np.random.Generator
) -> list[Finding]:
    """Findings on different images, most of them with three neighbours."""
    found = []
    for number, image in enumerate(rng.permutation(len(ids))[:count].tolist()):
        kind: Any = KINDS[number % len(KINDS)]
        row, whole = image * OBJECTS, kind == "blurry"
        near = [int(each) for each in rng.integers(0, len(ids), 3)]
        related = [Related(locations[each], ids[each], f"{each * OBJECTS:016x}", 0.7) for each in near]
        found.append(
            Finding(
                kind=kind,
                score=float(rng.beta(2, 2)),
                image=locations[image],
                image_id=ids[image],
                check="quality" if whole else "mistakes",
                annotation_id=None if whole or kind == "missing" else f"{row:016x}",
                bbox=None if whole else boxes[row].tolist(),
                given=None if whole else CLASSES[labels[row]],
                suggested=CLASSES[number % len(CLASSES)] if kind in ("mislabeled", "missing") else None,
                related=[] if whole else related,
                evidence={"why": f"it looks blurred {number}" if whole else "it looks otherwise", "p_wrong": 0.9},
            )
        )
    return found


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """A table whose other columns are empty."""
    count = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


if __name__ == "__main__":
    main()
