"""How many objects of real exports come in, and in what time: curate, Datumaro and supervision on the same files.

What a folder holds is counted in its files by a few lines here that know nothing of the readers. Each tool runs over all
folders in one process of its own and is told the format by name, where it knows one; CPU seconds are its own (user and
system), without its imports. A tool that raises has read nothing. Datumaro and supervision may be installed elsewhere: the
environment variable CURATE_PEERS names the interpreter that has them.

    python -m benchmarks.formats_kept --data FOLDER [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from benchmarks.report import Report, markdown, options, run
from curate.errors import UsageError


@dataclass(frozen=True)
class Export:
    """A folder of one format.

    Attributes:
        folder: Folder, or file, below the data folder.
        count: Counts the objects in the folder's files.
        datumaro: What Datumaro calls the format; None where it has none.
        supervision: What supervision reads it with: 'coco', 'yolo' or 'voc'; None where it has nothing.
    """

    folder: str
    count: Callable[[Path], int]
    datumaro: str | None = None
    supervision: str | None = None


def count_xml(tag: str, pattern: str = "**/*.xml") -> Callable[[Path], int]:
    """Counts elements by name in XML files."""
    return lambda folder: sum(len(list(ElementTree.parse(path).iter(tag))) for path in folder.glob(pattern))


def count_cvat(folder: Path) -> int:
    """Shapes and tags of images; in tracks the shapes that are not outside."""
    roots = [ElementTree.parse(path).getroot() for path in folder.glob("*.xml")]
    shapes = [shape for root in roots for parent in root.iter() if parent.tag in {"image", "track"} for shape in parent]
    return sum(shape.get("outside") != "1" for shape in shapes)


def count_lines(folder: Path) -> int:
    """Lines of label files."""
    skipped = {"classes.txt", "train.txt", "valid.txt", "test.txt"}
    texts = [path.read_text() for path in folder.rglob("*.txt") if path.name not in skipped]
    return sum(bool(line.strip()) for text in texts for line in text.splitlines())


def count_json(get: Callable[[Any], int], pattern: str = "**/*.json") -> Callable[[Path], int]:
    """Counts in JSON files."""
    return lambda folder: sum(get(json.loads(path.read_bytes())) for path in folder.glob(pattern))


def count_via(folder: Path) -> int:
    """Different regions of the VIA file: one that is listed twice is one."""
    listed = json.loads((folder / "via_region_data.json").read_bytes()).values()
    return len(
        {(image["filename"], json.dumps(region, sort_keys=True)) for image in listed for region in image["regions"]}
    )


def count_tasks(file: Path) -> int:
    """Regions of all annotations of Label Studio's tasks."""
    tasks = json.loads(file.read_bytes())
    regions = [region for task in tasks for each in task["annotations"] for region in each["result"]]
    return sum("value" in region for region in regions)


def count_open_images(folder: Path) -> int:
    """Boxes, and labels that are not verified as absent. Masks are those of boxes."""
    files = [*folder.glob("annotations/*-annotations-bbox.csv"), *folder.glob("annotations/*-human-imagelabels*.csv")]
    rows = [row for path in files for row in csv.DictReader(path.read_text().splitlines())]
    return sum(float(row["Confidence"]) > 0 for row in rows)


TEN: Final = "formats/same_images_ten_formats"
EXPORTS: Final = [
    Export(f"{TEN}/cvat1.1", count_cvat, "cvat"),
    Export(f"{TEN}/coco1.0", count_json(lambda file: len(file["annotations"])), "coco", "coco"),
    Export(f"{TEN}/yolo", count_lines, None, "yolo"),
    Export(f"{TEN}/yolo1.1", count_lines, "yolo"),
    Export(f"{TEN}/voc1.1", count_xml("object"), "voc", "voc"),
    Export(f"{TEN}/labelImg", count_xml("object"), None, "voc"),
    Export(f"{TEN}/labelme", count_json(lambda file: len(file["shapes"]))),
    Export(f"{TEN}/labelme3.0", count_xml("object"), "label_me"),
    Export(f"{TEN}/via", count_via, "vgg_face2"),
    Export(f"{TEN}/CreateML", count_json(lambda file: sum(len(image["annotations"]) for image in file))),
    Export("formats/datumaro/cvat_dataset/for_images/export_task", count_cvat, "cvat"),
    Export("formats/datumaro/dota_dataset", count_lines, "dota"),
    Export("formats/datumaro/kitti_dataset/kitti_detection", count_lines, "kitti_detection"),
    Export("formats/datumaro/open_images_dataset/v6", count_open_images, "open_images"),
    Export("formats/datumaro/roboflow_dataset/voc", count_xml("object"), "roboflow_voc", "voc"),
    Export("formats/label_studio/test_export_yolo/data.json", count_tasks),
    Export("detection/bccd", count_xml("object"), "voc", "voc"),
    Export(
        "detection/roboflow_wagon",
        count_json(lambda file: len(file["annotations"]), "*/_*.json"),
        "roboflow_coco",
        "coco",
    ),
]

CURATE: Final = """
import json, sys, time
from pathlib import Path
from curate.dataset import open_dataset
from curate.formats.importing import import_source

for number, (folder, _, _) in enumerate(json.loads(sys.argv[1])):
    began, error, objects = time.process_time(), None, 0
    try:
        import_source(f"bench{number}", Path(folder), command="benchmark")
        objects = open_dataset(f"bench{number}").count("annotations", where="layer = 'ground_truth'")
    except Exception as problem:
        error = type(problem).__name__
    print(json.dumps({"objects": objects, "cpu_s": time.process_time() - began, "error": error}))
"""
DATUMARO: Final = """
import json, sys, time
import datumaro

for folder, name, _ in json.loads(sys.argv[1]):
    began, error, objects = time.process_time(), None, 0
    try:
        if name is None:
            raise ValueError("no such format")
        for item in datumaro.Dataset.import_from(folder, name):
            grouped = {each.group for each in item.annotations if each.group}
            objects += len(grouped) + sum(not each.group for each in item.annotations)
    except BaseException as problem:
        error = type(problem).__name__
    print(json.dumps({"objects": objects, "cpu_s": time.process_time() - began, "error": error}))
"""
SUPERVISION: Final = """
import json, os, sys, time
from pathlib import Path
import supervision

def load(folder, name):
    if name is None:
        raise ValueError("no such format")
    root = Path(folder)
    if name == "coco":
        for file in sorted(root.glob("*/_annotations.coco.json")) or sorted(root.rglob("*.json")):
            images = root / "images" if (root / "images").is_dir() else file.parent
            yield supervision.DetectionDataset.from_coco(str(images), str(file))
    elif name == "yolo":
        (root / "data.yaml").exists() or Path("data.yaml").write_text(
            json.dumps({"names": (root / "classes.txt").read_text().split()}))
        yield supervision.DetectionDataset.from_yolo(folder, folder, "data.yaml")
    elif (root / "JPEGImages").is_dir():
        yield supervision.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    else:
        for each in [root, *(path for path in root.iterdir() if path.is_dir())]:
            if any(each.glob("*.xml")):
                yield supervision.DetectionDataset.from_pascal_voc(str(each), str(each))

for folder, _, name in json.loads(sys.argv[1]):
    began, error, objects = time.process_time(), None, 0
    try:
        for dataset in load(folder, name):
            objects += sum(len(detections) for detections in dataset.annotations.values())
    except BaseException as problem:
        error = type(problem).__name__
    print(json.dumps({"objects": objects, "cpu_s": time.process_time() - began, "error": error}))
"""
TOOLS: Final = {"curate": CURATE, "datumaro": DATUMARO, "supervision": SUPERVISION}


def main() -> None:
    """Run every tool that is installed."""
    parser = options(__doc__, data=True)
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Count what is in the files, then what each tool reads of them."""
    if arguments.data is None:
        raise UsageError(
            "there is nothing to read", where="--data", remedy="--data FOLDER, with formats/ and detection/"
        )
    data = arguments.data.absolute()
    there = [export for export in EXPORTS if (data / export.folder).exists()]
    held = [export.count(data / export.folder) for export in there]
    read, notes = {}, []
    for tool, code in TOOLS.items():
        python = sys.executable if tool == "curate" else os.environ.get("CURATE_PEERS", sys.executable)
        found, problem = run_tool(python, code, [(str(data / e.folder), e.datumaro, e.supervision) for e in there])
        if problem:
            notes.append(f"{tool} is left out: {problem}")
        else:
            read[tool] = found
    rows = [
        {"folder": export.folder, "held": count, **{tool: found[number] for tool, found in read.items()}}
        for number, (export, count) in enumerate(zip(there, held, strict=True))
    ]
    return Report({"folders": len(there)}, rows, table(rows, list(read)), notes)


def run_tool(python: str, code: str, exports: list[tuple[str, str | None, str | None]]) -> tuple[list[Any], str | None]:
    """What a tool says of each folder, or why it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [python, "-c", code, json.dumps(exports)],
            capture_output=True,
            text=True,
            cwd=folder,
            env={
                "CURATE_HOME": folder,
                "PATH": "",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
        )
    if process.returncode:
        return [], process.stderr.strip().rpartition("\n")[2]
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"objects"')], None


def table(rows: list[dict[str, Any]], tools: list[str]) -> str:
    """Objects kept of those in the files, and seconds."""
    lines = []
    for row in rows:
        cells: list[Any] = [row["folder"], row["held"]]
        for tool in tools:
            found = row[tool]
            cells += ["not read", "-"] if found["error"] else [found["objects"], round(found["cpu_s"], 3)]
        lines.append(cells)
    sums: list[Any] = ["all", sum(row["held"] for row in rows)]
    for tool in tools:
        sums += [
            sum(min(row[tool]["objects"], row["held"]) for row in rows),
            round(sum(row[tool]["cpu_s"] for row in rows), 3),
        ]
    header = ["export", "in the files", *(text for tool in tools for text in (f"{tool}: objects", "CPU s"))]
    return markdown(header, [*lines, sums])


if __name__ == "__main__":
    main()
