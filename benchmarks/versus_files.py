"""Contenders of `benchmarks.versus` that work on files: COCO files, pictures, FiftyOne's App."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

Work = Callable[[], int]
"""What is measured; says how much came out."""

LABELS: Final = "large/annotations/instances_labels.json"
SMALL: Final = "small/annotations/instances_labels.json"
"""Datumaro wants them to be called so."""


class Contender(NamedTuple):
    """One way to do a row's work.

    Attributes:
        package: What it needs; an interpreter that lacks it cannot run it.
        prepare: Gets ready in the folder and gives the work.
    """

    package: str
    prepare: Callable[[Path], Work]


def curate(*words: str) -> list[dict[str, Any]]:
    """Run a command in this process; its lines of JSON.

    Raises:
        RuntimeError: It failed.
    """
    from curate.cli import main as command

    sys.argv = ["curate", *words, "--json"]
    with redirect_stdout(StringIO()) as said:
        try:
            command()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"curate {' '.join(words)} ended with status {end.code}") from None
    return [json.loads(line) for line in said.getvalue().splitlines()]


def _parse(folder: Path) -> Work:
    import msgspec

    decoder = msgspec.json.Decoder()
    return lambda: len(decoder.decode((folder / LABELS).read_bytes())["annotations"])


def _curate_import(folder: Path) -> Work:
    curate("import", str(folder / SMALL), "-d", "small", "-f", "coco")

    def work() -> int:
        (said,) = curate("import", str(folder / LABELS), "-d", "large", "-f", "coco")
        return int(said["changes"]["annotations added"])

    return work


def _pycocotools_import(folder: Path) -> Work:
    coco = import_module("pycocotools.coco").COCO
    coco(str(folder / SMALL))
    return lambda: len(coco(str(folder / LABELS)).anns)


def _fiftyone_load(path: Path) -> Any:
    fiftyone = import_module("fiftyone")
    where = {"data_path": str(path.parent), "labels_path": str(path)}
    return fiftyone.Dataset.from_dir(dataset_type=fiftyone.types.COCODetectionDataset, progress=False, **where)


def _fiftyone_import(folder: Path) -> Work:
    _fiftyone_load(folder / SMALL)
    return lambda: int(_fiftyone_load(folder / LABELS).count("detections.detections"))


def _datumaro_load(path: Path) -> Any:
    return import_module("datumaro").Dataset.import_from(str(path), "coco_instances")


def _datumaro_import(folder: Path) -> Work:
    def work(path: Path = folder / LABELS) -> int:
        return sum(len(item.annotations) for item in _datumaro_load(path))

    work(folder / SMALL)
    return work


def _supervision_import(folder: Path) -> Work:
    load = import_module("supervision").DetectionDataset.from_coco

    def work(path: Path = folder / LABELS) -> int:
        dataset = load(str(path.parent), str(path))
        return sum(len(each) for each in dataset.annotations.values())

    work(folder / SMALL)
    return work


def _format_json(folder: Path) -> Work:
    import msgspec

    content = msgspec.json.decode((folder / LABELS).read_bytes())
    return lambda: (folder / "limit.json").write_bytes(msgspec.json.encode(content))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.json"))


def _curate_export(folder: Path) -> Work:
    curate("export", str(folder / f"small-{os.getpid()}"), "-d", "small", "-f", "coco")
    target = folder / f"export-{os.getpid()}"

    def work() -> int:
        curate("export", str(target), "-d", "large", "-f", "coco")
        return _size(target)

    return work


def _fiftyone_export(folder: Path) -> Work:
    kind = import_module("fiftyone").types.COCODetectionDataset
    target = folder / f"export-{os.getpid()}"

    def export(dataset: Any, target: Path) -> int:
        where = {"data_path": "data", "labels_path": str(target / "labels.json"), "export_media": False}
        dataset.export(dataset_type=kind, label_field="detections", progress=False, **where)
        return _size(target)

    export(_fiftyone_load(folder / SMALL), folder / f"small-{os.getpid()}")
    dataset = _fiftyone_load(folder / LABELS)
    return lambda: export(dataset, target)


def _datumaro_export(folder: Path) -> Work:
    def export(dataset: Any, target: Path) -> int:
        dataset.export(str(target), "coco_instances", save_media=False)
        return _size(target)

    export(_datumaro_load(folder / SMALL), folder / f"small-{os.getpid()}")
    dataset = _datumaro_load(folder / LABELS)
    return lambda: export(dataset, folder / f"export-{os.getpid()}")


# ---- a dataset in the FiftyOne App


def _curate_sync(folder: Path) -> Work:
    fiftyone = import_module("fiftyone")
    from curate.connectors.fiftyone.sync import Link

    Link(fiftyone, "small", "benchmark").sync()

    def work() -> int:
        Link(fiftyone, "large", "benchmark").sync()
        return len(fiftyone.load_dataset("large"))

    for name in ("small", "large"):
        if fiftyone.dataset_exists(name) and name == "large":
            fiftyone.delete_dataset(name)
    return work


def _fiftyone_sync(folder: Path) -> Work:
    _fiftyone_load(folder / SMALL)
    return lambda: len(_fiftyone_load(folder / LABELS))


def _insert(folder: Path) -> Work:
    """Documents as large as FiftyOne's own samples, sent to the same database by its driver."""
    import msgspec

    fiftyone = import_module("fiftyone")
    sample = _fiftyone_load(folder / SMALL).first().to_mongo_dict()
    sample.pop("_id", None)
    count = len(msgspec.json.decode((folder / LABELS).read_bytes())["images"])
    collection = import_module("fiftyone.core.odm").get_db_conn()[f"limit-{os.getpid()}"]
    assert fiftyone

    def work() -> int:
        return len(collection.insert_many([dict(sample) for _ in range(count)]).inserted_ids)

    return work


# ---- pixels


def _pictures(folder: Path) -> list[Path]:
    return sorted((folder / "pictures").glob("*.jpg"))


def _decode(folder: Path) -> Work:
    from curate.imaging import load_pixels

    paths = _pictures(folder)
    load_pixels(paths[0])
    return lambda: sum(len(load_pixels(path)) > 0 for path in paths)


def _curate_quality(folder: Path) -> Work:
    curate("quality", "-d", "small")

    def work() -> int:
        return len(curate("quality", "-d", "large"))

    return work


def _cleanvision_quality(folder: Path) -> Work:
    lab = import_module("cleanvision").Imagelab

    def work(where: str = "pictures") -> int:
        found = lab(data_path=str(folder / where), verbose=False)
        found.find_issues(n_jobs=1, verbose=False)
        return int(found.issue_summary["num_images"].sum())

    work("few")
    return work


def _imagehash(folder: Path) -> Work:
    imagehash, image = import_module("imagehash"), import_module("PIL.Image")

    def work() -> int:
        found = set()
        for path in _pictures(folder):
            with image.open(path) as picture:
                found.add((str(imagehash.phash(picture)), str(imagehash.dhash(picture))))
        return len(found)

    return work


IMPORT: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_import),
    "pycocotools": Contender("pycocotools", _pycocotools_import),
    "FiftyOne": Contender("fiftyone", _fiftyone_import),
    "Datumaro": Contender("datumaro", _datumaro_import),
    "supervision": Contender("supervision", _supervision_import),
    "limit": Contender("msgspec", _parse),
}
EXPORT: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_export),
    "FiftyOne": Contender("fiftyone", _fiftyone_export),
    "Datumaro": Contender("datumaro", _datumaro_export),
    "limit": Contender("msgspec", _format_json),
}
SYNC: Final[Mapping[str, Contender]] = {
    "curate": Contender("fiftyone", _curate_sync),
    "FiftyOne": Contender("fiftyone", _fiftyone_sync),
    "limit": Contender("fiftyone", _insert),
}
QUALITY: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_quality),
    "CleanVision": Contender("cleanvision", _cleanvision_quality),
    "imagehash": Contender("imagehash", _imagehash),
    "limit": Contender("curate", _decode),
}
