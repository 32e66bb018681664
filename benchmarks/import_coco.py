"""What it costs to import a large COCO file, against what other tools take to load it.

Each tool runs in a process of its own on the same generated file; CPU time (user and system, with child processes) and the
largest resident memory are the operating system's own figures. Tools that are not installed are left out, with a note.

    python -m benchmarks.import_coco [--images 100000] [--boxes 8.5] [--only TOOL ...] [--json FILE]
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
from typing import Final

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
        "from datumaro import Dataset; import os; print(len(Dataset.import_from(os.path.dirname(FILE), 'coco')))",
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(RUNNERS), default=list(RUNNERS), help="run these only")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Generate the file and run the tools on it, one after another."""
    measurements, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "annotations" / "instances_train.json"
        file.parent.mkdir()
        boxes = generate(file, arguments.images, arguments.boxes, arguments.seed)
        for tool in arguments.only:
            package, code = RUNNERS[tool]
            if find_spec(package) is None:
                notes.append(f"'{tool}' is left out: {package} is not installed")
                continue
            measurements.append(run_tool(tool, code, file, Path(folder) / "home"))
            print(measurements[-1], file=sys.stderr)
        size = file.stat().st_size
    settings = {"images": arguments.images, "boxes": boxes, "file_bytes": size, "seed": arguments.seed}
    return Report(settings, [asdict(each) for each in measurements], table(measurements), notes)


def table(measurements: list[Measurement]) -> str:
    """The figures, with ratios to pycocotools."""
    base = next((each for each in measurements if each.tool == BASE), None)
    rows = []
    for each in measurements:
        ratios = [f"{each.cpu_s / base.cpu_s:.2f}", f"{each.peak_mb / base.peak_mb:.2f}"] if base else ["-", "-"]
        rows.append([each.tool, each.cpu_s, each.wall_s, each.peak_mb, *ratios])
    return markdown(["tool", "CPU s", "wall s", "peak MB", "CPU, of pycocotools", "memory, of pycocotools"], rows)


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


def run_tool(tool: str, code: str, file: Path, home: Path) -> Measurement:
    """Run some Python in a process of its own and ask the system what it took."""
    environment = os.environ | {"CURATE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"FILE = {str(file)!r}\n{code}"]
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
