"""How much memory the import of a large file takes: COCO and Label Studio JSON of some gigabytes.

The files are generated: boxes and polygons on images that are not there, so that reading and storing are all there is to do.
The wanted limit is 1.5 GB of resident memory for a file of 2 GB.

    python -m benchmarks.import_large [--gigabytes 2] [--only coco label_studio] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.import_coco import CURATE_IMPORT, Measurement, run_tool
from benchmarks.report import Report, markdown, options, run

SIZE: Final = (1920, 1080)
OBJECTS: Final = 12
CLASSES: Final = ["bolt", "nut", "washer", "gear"]


def main() -> None:
    """Generate a file of each kind and import it."""
    parser = options(__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--only", nargs="+", choices=list(WRITERS), default=list(WRITERS))
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Import each file in a process of its own."""
    measured: list[tuple[Measurement, float, int]] = []
    for kind in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{kind}.json"
            objects = WRITERS[kind](file, arguments.gigabytes * 1e9)
            code = CURATE_IMPORT.replace("'-f', 'coco'", f"'-f', {kind!r}")
            measured.append((run_tool(kind, code, file, Path(folder) / "home"), file.stat().st_size / 1e9, objects))
            print(measured[-1], file=sys.stderr)
    rows = [[m.tool, round(size, 2), objects, m.cpu_s, m.wall_s, m.peak_mb] for m, size, objects in measured]
    header = ["file", "GB", "objects", "CPU s", "wall s", "peak MB"]
    results = [{**asdict(replace(m, output="")), "gigabytes": size, "objects": n} for m, size, n in measured]
    return Report({"gigabytes": arguments.gigabytes}, results, markdown(header, rows))


def write_coco(path: Path, size: float) -> int:
    """A COCO file of about so many bytes; annotations after images, as exporters have it.

    Returns:
        The number of annotations.
    """
    images = int(size / (OBJECTS * 260 + 100))
    with path.open("w", encoding="utf-8") as file:
        categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
        file.write(json.dumps({"categories": categories})[:-1] + ', "images": [')
        for image in range(images):
            content = {"id": image, "file_name": f"line/{image:08d}.jpg", "width": SIZE[0], "height": SIZE[1]}
            file.write((", " if image else "") + json.dumps(content))
        file.write('], "annotations": [')
        for number, shape in zip(range(images * OBJECTS), shapes(), strict=False):
            content = {"id": number, "image_id": number // OBJECTS, "category_id": number % 4, "iscrowd": 0, **shape}
            file.write((", " if number else "") + json.dumps(content))
        file.write("]}")
    return images * OBJECTS


def write_label_studio(path: Path, size: float) -> int:
    """A Label Studio export of about so many bytes; polygons in percent.

    Returns:
        The number of regions.
    """
    scale = 100 / np.tile(SIZE, 6)
    drawn = shapes()
    objects = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for task in count(1):
            regions = []
            for number in range(OBJECTS):
                points = (np.array(next(drawn)["segmentation"][0]) * scale).reshape(-1, 2).tolist()
                value = {"points": points, "closed": True, "polygonlabels": [CLASSES[number % 4]]}
                own = {"id": f"r{task}_{number}", "type": "polygonlabels", "from_name": "label", "to_name": "image"}
                sides = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0, "origin": "manual"}
                regions.append({**own, **sides, "value": value})
            annotation = {"id": task, "completed_by": 1, "result": regions, "was_cancelled": False}
            data = {"image": f"/data/upload/1/{task:08x}-part.jpg"}
            content = {"id": task, "project": 1, "data": data, "annotations": [annotation], "predictions": []}
            file.write((", " if task > 1 else "") + json.dumps(content))
            objects += OBJECTS
            if file.tell() > size:
                break
        file.write("]")
    return objects


def shapes() -> Iterator[dict[str, Any]]:
    """Boxes with polygons of six corners, without end; the same on every run."""
    rng = np.random.default_rng(0)
    while True:
        centres = rng.uniform((100, 100), (1820, 980), (1000, 2))
        radii = rng.uniform(10, 90, (1000, 6))
        angles = np.arange(6) * np.pi / 3
        corners = centres[:, None] + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        corners = corners.round(2)
        low, high = corners.min(axis=1), corners.max(axis=1)
        for points, corner, side in zip(
            corners.reshape(-1, 12).tolist(), low.tolist(), (high - low).tolist(), strict=True
        ):
            yield {"segmentation": [points], "bbox": corner + side, "area": round(side[0] * side[1], 3)}


WRITERS: Final[dict[str, Callable[[Path, float], int]]] = {"coco": write_coco, "label_studio": write_label_studio}


if __name__ == "__main__":
    main()
