"""How fast a dataset comes to the FiftyOne App and back: curate against FiftyOne's own import of the same COCO file.

Both write to the same database, which is started for this run, in turns: what comes first the one time comes last the next, so
that neither has the warmer caches or the emptier machine. Measured beside the first sync: opening again when nothing has
changed, after 1% of the images got another label here, and after 1% of them were tagged in the App. Seconds on the clock are the
user's; seconds of the processor, of Python and of the database together, can be compared on a busy machine.

    python -m benchmarks.fiftyone_sync [--images 20000] [--boxes 8.5] [--rounds 2] [--without-plain] [--json FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from PIL import Image

from benchmarks.import_coco import generate
from benchmarks.report import Report, markdown, options, run
from curate.connectors.fiftyone.database import app_folder
from curate.connectors.fiftyone.environment import connected
from curate.connectors.fiftyone.labels import mark
from curate.connectors.fiftyone.sync import Link
from curate.connectors.sync.content import rows_of, table_of
from curate.dataset import begin, open_dataset
from curate.dataset.query import quote
from curate.formats.importing import import_source

NAME: Final = "bench"
PLAIN: Final = "plain"
SHARE: Final = 100
"""One image of so many is changed."""

_PLAIN: Final = "FiftyOne's own import"
_OURS: Final = "curate, first time"


def main() -> None:
    """Measure both ways."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--boxes", type=float, default=8.5, help="mean number of boxes on an image (default 8.5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2, help="how often each side makes its copy (default 2)")
    parser.add_argument("--without-plain", action="store_true", help="leave FiftyOne's own import out: it is slow")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """The same file for both, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CURATE_HOME"] = str(Path(folder) / "home")
        file = Path(folder) / "data" / "labels.json"
        boxes = write_data(file, arguments.images, arguments.boxes, arguments.seed)
        import_source(NAME, file, format="coco", command="benchmark")
        with connected() as fiftyone:
            results = _first(fiftyone, file, arguments.images, arguments.rounds, plain=not arguments.without_plain)
            ratios = _ratios(results)
            results += _later(fiftyone, arguments.images)
    rows = [
        [each["what"], f"{each['samples']:,}", f"{each['wall_s']:.2f}", f"{each['cpu_s']:.2f}", f"{each['rate']:,}"]
        for each in results
    ]
    settings = {
        "images": arguments.images,
        "boxes": boxes,
        "seed": arguments.seed,
        "rounds": arguments.rounds,
        **ratios,
    }
    table = markdown(["what", "samples", "wall s", "CPU s", "samples/s"], rows)
    said = "".join(f"\n{name.replace('_', ' ')}: {ratio:.1f}" for name, ratio in ratios.items())
    return Report(settings, results, f"{table}\n{said}" if said else table)


def write_data(file: Path, images: int, boxes: float, seed: int) -> int:
    """A COCO file, and an image for each of its names: the same one. Returns how many boxes there are."""
    file.parent.mkdir(parents=True)
    count = generate(file, images, boxes, seed)
    with io.BytesIO() as picture:
        Image.new("RGB", (640, 480), (90, 120, 150)).save(picture, "JPEG")
        content = picture.getvalue()
    for image in range(images):
        (file.parent / f"{image:012d}.jpg").write_bytes(content)
    return count


def _first(fiftyone: Any, file: Path, images: int, rounds: int, *, plain: bool) -> list[dict[str, Any]]:
    """Each side makes its copy of the dataset, once in every round; curate's last one stays."""
    results = []
    for number in range(1, rounds + 1):
        sides: list[tuple[str, str, Callable[[], object]]] = []
        if plain:
            sides.append((_PLAIN, PLAIN, lambda: _plain(fiftyone, file)))
        sides.append((_OURS, NAME, lambda: Link(fiftyone, NAME, "benchmark").sync()))
        for what, name, make in sides if number % 2 else reversed(sides):
            if fiftyone.dataset_exists(name):
                fiftyone.delete_dataset(name)
            results.append({**_timed(f"{what}, round {number}", images, make), "side": what})
    return results


def _ratios(results: list[dict[str, Any]]) -> dict[str, float]:
    """How many times as long FiftyOne's own import takes, all rounds together."""
    took = {
        (side, unit): sum(each[unit] for each in results if each["side"] == side)
        for side in (_PLAIN, _OURS)
        for unit in ("wall_s", "cpu_s")
    }
    if not took[_PLAIN, "wall_s"]:
        return {}
    return {
        "times_as_fast_by_the_clock": took[_PLAIN, "wall_s"] / took[_OURS, "wall_s"],
        "times_as_fast_by_the_processor": took[_PLAIN, "cpu_s"] / took[_OURS, "cpu_s"],
    }


def _later(fiftyone: Any, images: int) -> list[dict[str, Any]]:
    """Opening again, and looking for changes while the App runs."""
    few = images // SHARE
    results = [_timed("curate, opened again, nothing new", 0, Link(fiftyone, NAME, "benchmark").sync)]
    ids = _change_labels(few)
    results.append(_timed("curate, opened again, 1% changed here", few, Link(fiftyone, NAME, "benchmark").sync))
    fiftyone.load_dataset(NAME).select([mark(each) for each in ids]).tag_samples("seen")
    results.append(_timed("curate, opened again, 1% tagged in the App", few, Link(fiftyone, NAME, "benchmark").sync))
    running = Link(fiftyone, NAME, "benchmark")
    running.sync()
    running.poll()
    results.append(_timed("curate, a look while the App runs, nothing new", 0, running.poll))
    assert open_dataset(NAME).count("images", where="array_has(tags, 'seen')") == few
    return results


def _plain(fiftyone: Any, file: Path) -> None:
    fiftyone.Dataset.from_dir(
        dataset_type=fiftyone.types.COCODetectionDataset,
        data_path=str(file.parent),
        labels_path=str(file),
        name=PLAIN,
        persistent=True,
        progress=False,
    )


def _change_labels(count: int) -> list[str]:
    """Give all annotations of some images another class; returns the images' ids."""
    with begin(NAME, command="benchmark") as transaction:
        ids = transaction.read("images", columns=["image_id"])["image_id"].to_pylist()[::SHARE][:count]
        rows = rows_of(transaction.read("annotations", where=f"image_id IN ({', '.join(map(quote, ids))})"))
        changed = table_of([{**row, "label": "class 0"} for row in rows])
        transaction.upsert("annotations", changed, "annotation_id")
    return list(ids)


def _timed(what: str, samples: int, call: Callable[[], object]) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), _cpu()
    call()
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    found = {"what": what, "samples": samples, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}
    return found | {"rate": round(samples / wall)}


def _cpu() -> float:
    """Seconds of the processor that this process and the database have taken."""
    psutil = import_module("psutil")  # comes with FiftyOne
    state = json.loads((app_folder() / "server.json").read_bytes())
    times = psutil.Process(state["pid"]).cpu_times()
    return time.process_time() + float(times.user + times.system)


if __name__ == "__main__":
    main()
