"""How well copies of images are found, at the default threshold.

    python -m benchmarks.duplicates [--data FOLDER] [--photos 300] [--scenes 60] [--json FILE]

Sets: photographs (BCCD, raccoon, one of each wagon source) with eight transforms each; the Roboflow export `wagon`, whose
files' names tell which were made of one source (the names are not used here); scenes of `parts_v3` rendered under each of
its four lightings; scenes that share camera, light and background and nothing else, some of them shot twice; and `parts_v3`
with its planted copies, where images of one burst count neither way.

F1 is over pairs: raw (the pairs found) and joined (all pairs of each group). `dhash` and `phash` are pairs whose hashes
differ in at most 10 bits, joined likewise; CleanVision is run with its defaults where it is installed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.report import Report, markdown, options, real_set, run
from curate.checks.duplicates.dataset import IMAGE_COLUMNS, dataset_pairs
from curate.checks.duplicates.pairs import SAME_PIXELS, Pairs, certain_pairs, groups_of
from curate.checks.measures.content import content_hash
from curate.checks.measures.table import read_measures
from curate.dataset import begin, remove
from curate.demo import make_parts
from curate.demo import render as rendering
from curate.demo.render import Shot, encode_jpeg, plan_shots, render
from curate.demo.shading import LIGHTINGS, sample_lighting
from curate.demo.surfaces import SURFACES, sample_surface
from curate.formats.importing import import_source
from curate.imaging import IMAGE_SUFFIXES, Pixels, load_pixels

Array = npt.NDArray[Any]
PairSet = set[tuple[int, int]]

HASH_BITS: Final = 10


@dataclass(frozen=True)
class Case:
    """A folder of images with known copies.

    Attributes:
        name: Of the set.
        folder: Where the images are.
        source: What an image was made of, by its location; images of one source are copies.
        kind: How it was made of it, by its location.
        ignored: Whether a pair of locations counts neither way.
    """

    name: str
    folder: Path
    source: Callable[[str], str]
    kind: Callable[[str], str] = lambda location: "copy"
    ignored: Callable[[str, str], bool] = lambda first, second: False


def main() -> None:
    """Run every case."""
    parser = options(__doc__, data=True)
    parser.add_argument("--photos", type=int, default=300, help="photographs to transform (default 300)")
    parser.add_argument("--scenes", type=int, default=60, help="scenes under four lights (default 60)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set by every method."""
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["CURATE_HOME"] = str(root / "home")
        for case in _cases(root, arguments, notes):
            results += _compare(case, notes)
    settings = {"photos": arguments.photos, "scenes": arguments.scenes}
    return Report(settings, results, _table(results), sorted(set(notes)))


def _cases(root: Path, arguments: argparse.Namespace, notes: list[str]) -> Iterator[Case]:
    sets = {name: real_set(arguments.data, name, notes) for name in ("bccd", "raccoon", "roboflow_wagon")}
    photos = _photos([folder for folder in sets.values() if folder is not None], arguments.photos)
    if photos:
        folder = root / "transforms"
        for number, path in enumerate(photos):
            _write_transforms(load_pixels(path), folder, number)
        yield Case("photos x 8 transforms", folder, lambda where: where[:4], lambda where: where[5:].split(".")[0])
    wagon = sets["roboflow_wagon"]
    if wagon is not None:
        yield Case("wagon's sources", wagon, lambda where: where.rsplit("/", 1)[-1].split(".rf.")[0])
    yield _relit(root / "relit", arguments.scenes)
    yield _shared_background(root / "background")
    yield _planted(root / "parts")


def _photos(folders: list[Path], count: int) -> list[Path]:
    """As many photographs from each set, one per source and none twice (raccoon has equal files)."""
    chosen: list[Path] = []
    rng = np.random.default_rng(0)
    for place, folder in enumerate(folders):
        sources: dict[str, Path] = {}
        contents: set[str | None] = set()
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                content, source = content_hash(str(path)), path.name.split(".rf.")[0]
                if content not in contents:
                    sources.setdefault(source, path)
                contents.add(content)
        share = (count - len(chosen)) // (len(folders) - place)
        found = list(sources.values())
        chosen += [found[k] for k in sorted(rng.permutation(len(found))[:share])]
    return chosen


def _write_transforms(pixels: Pixels, folder: Path, number: int) -> None:
    rng = np.random.default_rng([1, number])
    height, width = pixels.shape[:2]
    left, top = int(rng.uniform(0, 0.15) * width), int(rng.uniform(0, 0.15) * height)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5 * rng.choice([-1, 1]), 1)
    logo = pixels.copy()
    box = logo[height // 40 :, width // 40 :][: max(8, height // 10), : max(20, width // 4)]
    box[:] = (250, 200, 0)
    cv2.putText(logo, "LOGO", (width // 30, height // 10), cv2.FONT_HERSHEY_SIMPLEX, width / 250, (10, 10, 90), 2)
    made: dict[str, Array] = {
        "original": pixels,
        "jpeg": pixels,
        "half": cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA),
        "crop": pixels[top : top + int(0.85 * height), left : left + int(0.85 * width)],
        "rotated": cv2.warpAffine(pixels, turn, (width, height)),
        "flip": pixels[:, ::-1],
        "brightness": np.clip(pixels * rng.choice([0.65, 1.35]), 0, 255).astype(np.uint8),
        "noise": np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8),
        "logo": logo,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, image in made.items():
        data = encode_jpeg(np.ascontiguousarray(image), 40 if kind == "jpeg" else 93)
        (folder / f"{number:04d}-{kind}.jpg").write_bytes(data)


def _relit(folder: Path, scenes: int) -> Case:
    folder.mkdir(parents=True)
    shots = [shot for shot in plan_shots(2 * scenes, 7) if shot.frame == 0][:scenes]
    for number, shot in enumerate(shots):
        for lighting in LIGHTINGS:
            (folder / f"{number:04d}-{lighting}.jpg").write_bytes(render(replace(shot, lighting=lighting), 7).jpeg)
    return Case("parts_v3 under 4 lightings", folder, lambda where: where[:4], lambda where: where[5:].split(".")[0])


def _shared_background(folder: Path) -> Case:
    """Five cameras, each over one surface under one light, with 14 scenes; five of those are shot twice."""
    folder.mkdir(parents=True)
    for camera, name in enumerate(list(SURFACES)[:5]):
        surface, lighting = (partial(_seeded, draw, 100 + camera) for draw in (sample_surface, sample_lighting))
        with patch.multiple(rendering, sample_surface=surface, sample_lighting=lighting):
            for scene in range(14):
                for again in range(2 if scene < 5 else 1):
                    index, which = 1000 * camera + 10 * scene + again, "cam-a" if camera % 2 else "cam-b"
                    shot = Shot(index, 100 * camera + scene, 0, 1, "train", which, "ring", name)
                    (folder / f"{camera}{scene:02d}-{again}.jpg").write_bytes(render(shot, 9).jpeg)
    return Case("parts sharing the background only", folder, lambda where: where[:3])


def _seeded(draw: Callable[[str, np.random.Generator], Any], seed: int, name: str, _: np.random.Generator) -> Any:
    return draw(name, np.random.default_rng(seed))


def _planted(folder: Path) -> Case:
    parts = make_parts(folder, images=300, seed=5)
    original = {fault.image: fault.related_image for fault in parts.truth.faults if fault.related_image is not None}
    group = {picture.file: picture.group for picture in parts.truth.pictures}

    def source(where: str) -> str:
        file = f"images/{where}"
        while file in original:
            file = str(original[file])
        return file

    def same_burst(first: str, second: str) -> bool:
        groups = [group[source(where)] for where in (first, second)]
        return groups[0] is not None and groups[0] == groups[1]

    return Case("planted in parts_v3", parts.root / "images", source, ignored=same_burst)


def _compare(case: Case, notes: list[str]) -> list[dict[str, Any]]:
    """One set, by every method."""
    name = "set"
    import_source(name, case.folder, command="benchmark")
    with begin(name, command="benchmark") as transaction:
        images = transaction.base.table("images", columns=list(IMAGE_COLUMNS))
        place = images.schema.get_field_index("group")
        images = images.set_column(place, images.schema.field(place), pa.nulls(images.num_rows, pa.string()))
        started = time.process_time()
        pairs, _ = dataset_pairs(transaction, images, encoder="builtin")
        seconds = time.process_time() - started
        measures = read_measures(transaction, "images", images["image_id"])[0].columns
    remove(name)
    locations = images["location"].to_pylist()
    truth = _truth(case, locations)
    methods = {"curate": pairs}
    for hashed in ("dhash", "phash"):
        methods[hashed] = certain_pairs(*_near_hashes(measures[hashed]), 2)
    cleanvision = _cleanvision(images["path"].to_pylist(), notes)
    if cleanvision is not None:
        methods["cleanvision"] = cleanvision
    results = [_judge(case, method, found, truth, locations) for method, found in methods.items()]
    results[0] |= {"cpu_s_per_image": round(seconds / len(locations), 4), "pairs_compared": len(pairs)}
    return results


def _truth(case: Case, locations: list[str]) -> PairSet:
    sources: dict[str, list[int]] = {}
    for row, location in enumerate(locations):
        sources.setdefault(case.source(location), []).append(row)
    return {pair for rows in sources.values() for pair in combinations(rows, 2)}


def _judge(case: Case, method: str, pairs: Pairs, truth: PairSet, locations: list[str]) -> dict[str, Any]:
    copies = pairs.copies
    # Equal images stand for one another: pairs of theirs are found with the first's.
    alike = groups_of(pairs.take(pairs.kind <= SAME_PIXELS), len(locations))
    order = np.argsort(alike, kind="stable")
    equal = {int(alike[rows[0]]): rows.tolist() for rows in np.split(order, np.flatnonzero(np.diff(alike[order])) + 1)}
    raw = {
        (min(a, b), max(a, b))
        for first, second in zip(alike[copies.first].tolist(), alike[copies.second].tolist(), strict=True)
        for a in equal[first]
        for b in equal[second]
        if a != b
    }
    group = groups_of(pairs, len(locations))
    order = np.argsort(group, kind="stable")
    joined = {
        pair
        for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        for pair in combinations(rows.tolist(), 2)
    }
    ignored = {pair for pair in (raw | joined) - truth if case.ignored(locations[pair[0]], locations[pair[1]])}
    raw, joined = raw - ignored, joined - ignored
    recall = {}
    for kind in sorted({case.kind(location) for location in locations}):
        of_kind = {pair for pair in truth if kind in (case.kind(locations[pair[0]]), case.kind(locations[pair[1]]))}
        recall[kind] = round(len(joined & of_kind) / max(len(of_kind), 1), 4)
    return {
        "set": case.name,
        "method": method,
        "images": len(locations),
        "true_pairs": len(truth),
        "f1_raw": _f1(raw, truth),
        "f1_joined": _f1(joined, truth),
        "false_pairs": len(raw - truth),
        "false_sources": sorted({f"{case.source(locations[a])} | {case.source(locations[b])}" for a, b in raw - truth})[
            :50
        ],
        "false_pairs_joined": len(joined - truth),
        "recall_joined": recall,
        "expected_precision": round(float(copies.score.mean()), 4) if len(copies) else None,
    }


def _f1(found: PairSet, truth: PairSet) -> float:
    return round(2 * len(found & truth) / max(len(found) + len(truth), 1), 4)


def _near_hashes(hashes: Array) -> tuple[Array, Array]:
    first, second = [], []
    for row in range(len(hashes) - 1):
        near = np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= HASH_BITS) + row + 1
        first.append(np.full(len(near), row))
        second.append(near)
    return np.concatenate(first), np.concatenate(second)


def _cleanvision(paths: list[str], notes: list[str]) -> Pairs | None:
    try:
        imagelab = import_module("cleanvision").Imagelab
    except ImportError:
        notes.append("CleanVision is left out: it is not installed")
        return None
    lab = imagelab(filepaths=paths)
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    row = {path: k for k, path in enumerate(paths)}
    found = [
        pair
        for kind in ("exact_duplicates", "near_duplicates")
        for copies in lab.info[kind]["sets"]
        for pair in combinations([row[path] for path in copies], 2)
    ]
    pairs = np.unique(np.sort(np.array(found, dtype=np.int64).reshape(-1, 2), axis=1), axis=0)
    return certain_pairs(pairs[:, 0], pairs[:, 1], 2)


def _table(results: list[dict[str, Any]]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in results))
    rows = []
    for case in dict.fromkeys(row["set"] for row in results):
        mine = {row["method"]: row for row in results if row["set"] == case}
        ours = mine["curate"]
        cells = [
            f"{mine[method]['f1_raw']:.3f} / {mine[method]['f1_joined']:.3f}" if method in mine else "-"
            for method in methods
        ]
        lowest = min(ours["recall_joined"].items(), key=lambda item: item[1])
        rows.append(
            [case, ours["images"], ours["true_pairs"], *cells, ours["false_pairs"], f"{lowest[1]:.3f} ({lowest[0]})",
             f"{1000 * ours['cpu_s_per_image']:.0f}"]
        )  # fmt: skip
    columns = ["set", "images", "pairs", *methods, "false", "lowest recall", "CPU ms an image"]
    return markdown(columns, rows)


if __name__ == "__main__":
    main()
