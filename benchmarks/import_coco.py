"""What it costs to import a large COCO file, against what other tools take to load it.

Each tool runs in a process of its own, in turns, on the same generated file; CPU time (user and system, with child processes)
and the largest resident memory are the operating system's own figures, medians over the runs. Tools that are not installed
here run in the interpreter that the environment variable CURATE_PEERS names, or are left out, with a note. FiftyOne is given a
smaller file, as it takes minutes; its database is a process of its own, and not counted.

    python -m benchmarks.import_coco [--images 100000] [--boxes 8.5] [--repeats 3] [--fiftyone-images 2000]
                                     [--only TOOL ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.report import Report, markdown, options, run

CLASSES: Final = 80
CURATE_IMPORT = (
    "import sys; from curate.cli import main; "
    "sys.argv = ['curate', 'import', FILE, '-d', 'bench', '-f', 'coco', '--json']; main()"
)
RUNNERS: Final = {
    "import lance": ("lance", "import lance"),
    "curate import": ("curate", CURATE_IMPORT),
    "curate import again": ("curate", CURATE_IMPORT),
    "curate read": (
        "curate",
        "from pathlib import Path; from curate.formats.base import ReadOptions; from curate.formats.coco import FORMAT; "
        "from curate.formats.losses import LossReport; "
        "print(sum(t.num_rows for t in FORMAT.read(Path(FILE), ReadOptions(), LossReport()).annotations))",
    ),
    "pycocotools load": ("pycocotools", "from pycocotools.coco import COCO; print(len(COCO(FILE).anns))"),
    "datumaro load": (
        "datumaro",
        "from datumaro import Dataset; import os; "
        "print(len(Dataset.import_from(os.path.dirname(os.path.dirname(FILE)), 'coco')))",
    ),
    "supervision load": (
        "supervision",
        "import os, supervision as sv; "
        "print(len(sv.DetectionDataset.from_coco(os.path.dirname(FILE), FILE).image_paths))",
    ),
    "fiftyone import": (
        "fiftyone",
        "import os, fiftyone as fo; print(len(fo.Dataset.from_dir(dataset_type=fo.types.COCODetectionDataset, "
        "data_path=os.path.dirname(FILE), labels_path=FILE)))",
    ),
}
BASE: Final = "pycocotools load"
AGAIN: Final = "curate import again"
SLOW: Final = "fiftyone import"


@dataclass(frozen=True)
class Measurement:
    """One run of one tool.

    Attributes:
        tool: What ran.
        cpu_s: User and system time of the process and its children.
        wall_s: Time on the clock.
        peak_mb: Largest resident memory, in 2^20 bytes.
        output: The last line it printed.
    """

    tool: str
    cpu_s: float
    wall_s: float
    peak_mb: float
    output: str


def main() -> None:
    """Run every tool that is installed."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes", type=float, default=8.5, help="mean number of boxes on an image (default 8.5)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tool (default 3)")
    parser.add_argument("--fiftyone-images", type=int, default=2000, help="images in FiftyOne's file (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(RUNNERS), default=list(RUNNERS), help="run these only")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Generate the files and run the tools on them, in turns."""
    notes: list[str] = []
    found: dict[str, list[Measurement]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"large": arguments.images, "small": min(arguments.images, arguments.fiftyone_images)}
        files = {name: Path(folder) / name / "annotations" / "instances_train.json" for name in sizes}
        for file in files.values():
            file.parent.mkdir(parents=True)
            (file.parents[1] / "images").mkdir()  # Datumaro wants one
        boxes = {name: generate(files[name], size, arguments.boxes, arguments.seed) for name, size in sizes.items()}
        pythons = {tool: interpreter(RUNNERS[tool][0]) for tool in arguments.only}
        for repeat in range(arguments.repeats):
            for tool in [tool for tool, python in pythons.items() if python]:
                size = "small" if tool == SLOW else "large"
                home = Path(folder) / (f"home {repeat}" if repeat == 0 or tool != AGAIN else "home 0")
                one = run_tool(tool, RUNNERS[tool][1], files[size], home, pythons[tool] or sys.executable)
                found.setdefault(tool, []).append(one)
                print(one, file=sys.stderr)
        file_bytes = files["large"].stat().st_size
    notes += [f"'{tool}' is left out: {RUNNERS[tool][0]} is not installed" for tool in pythons if not pythons[tool]]
    if SLOW in found:
        notes.append(f"'{SLOW}' is of {sizes['small']:,} images and {boxes['small']:,} boxes")
    settings = {"images": arguments.images, "boxes": boxes["large"], "file_bytes": file_bytes, "seed": arguments.seed}
    settings |= {"repeats": arguments.repeats, "fiftyone_images": sizes["small"], "fiftyone_boxes": boxes["small"]}
    results = [
        {**asdict(middle(runs)), "boxes": boxes["small" if tool == SLOW else "large"]} for tool, runs in found.items()
    ]
    return Report(settings, results, table(results), notes)


def interpreter(package: str) -> str | None:
    """The Python that has a package: this one, else that of CURATE_PEERS; None where neither has it."""
    if find_spec(package) is not None:
        return sys.executable
    peers = os.environ.get("CURATE_PEERS")
    code = f"import sys, importlib.util; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return peers if peers and subprocess.run([peers, "-c", code]).returncode == 0 else None


def middle(runs: list[Measurement]) -> Measurement:
    """Medians over the runs of a tool."""
    cpu, wall, peak = (
        round(float(np.median([getattr(each, name) for each in runs])), 2) for name in ("cpu_s", "wall_s", "peak_mb")
    )
    return Measurement(runs[0].tool, cpu, wall, peak, runs[-1].output)


def table(results: list[dict[str, Any]]) -> str:
    """The figures, with ratios to pycocotools."""
    base = next((each for each in results if each["tool"] == BASE), None)
    rows = []
    for each in results:
        a_box = 1e6 * each["cpu_s"] / each["boxes"]
        same = base is not None and base["boxes"] == each["boxes"]
        ratios = [f"{each[name] / base[name]:.2f}" if base and same else "-" for name in ("cpu_s", "peak_mb")]
        rows.append([each["tool"], each["cpu_s"], each["wall_s"], each["peak_mb"], f"{a_box:.1f}", *ratios])
    columns = ["tool", "CPU s", "wall s", "peak MB", "CPU us a box", "CPU, of pycocotools", "memory, of pycocotools"]
    return markdown(columns, rows)


def generate(path: Path, images: int, boxes_per_image: float, seed: int) -> int:
    """Write a COCO file as exporters do: every field of a box filled, nothing pretty-printed.

    Returns:
        The number of boxes.
    """
    rng = np.random.default_rng(seed)
    counts = rng.poisson(boxes_per_image, images)
    number = 0
    with path.open("w", encoding="utf-8") as file:
        categories = [{"id": k + 1, "name": f"class {k}", "supercategory": "thing"} for k in range(CLASSES)]
        file.write(json.dumps({"info": {"year": 2026}, "licenses": [], "categories": categories})[:-1])
        file.write(', "images": [')
        for image in range(images):
            content = {"id": image + 1, "file_name": f"{image:012d}.jpg", "width": 640, "height": 480, "license": 1}
            file.write((", " if image else "") + json.dumps(content))
        file.write('], "annotations": [')
        for image, count in enumerate(counts.tolist()):
            corners = rng.uniform((0, 0), (600, 440), (count, 2)).round(2)
            sizes = rng.uniform(5, 40, (count, 2)).round(2)
            classes = rng.integers(1, CLASSES + 1, count)
            for corner, size, label in zip(corners.tolist(), sizes.tolist(), classes.tolist(), strict=True):
                number += 1
                content = {
                    "id": number,
                    "image_id": image + 1,
                    "category_id": label,
                    "bbox": corner + size,
                    "area": round(size[0] * size[1], 4),
                    "segmentation": [],
                    "iscrowd": 0,
                }
                file.write((", " if number > 1 else "") + json.dumps(content))
        file.write("]}")
    return number


def run_tool(tool: str, code: str, file: Path, home: Path, python: str = sys.executable) -> Measurement:
    """Run some Python in a process of its own and ask the system what it took."""
    environment = os.environ | {
        "CURATE_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "FIFTYONE_DATABASE_DIR": f"{home} database",
        "FIFTYONE_DO_NOT_TRACK": "true",
    }
    command = [python, "-c", f"FILE = {str(file)!r}\n{code}"]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise RuntimeError(f"{tool} failed with exit status {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in kilobytes on Linux
    peak = usage.ru_maxrss * scale / 2**20
    cpu = usage.ru_utime + usage.ru_stime
    return Measurement(tool, round(cpu, 2), round(wall, 2), round(peak, 1), lines[-1] if lines else "")


if __name__ == "__main__":
    main()
