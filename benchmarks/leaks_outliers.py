"""Leaks planted in `parts_v3`, how a new split comes out, and strangers planted in real sets.

    python -m benchmarks.leaks_outliers [--data FOLDER] [--seeds 2] [--images 300] [--json FILE]

*Leaks*: `curate leaks --resplit` on `parts_v3`: how many planted pairs are found, how many others, what is left afterwards.

*Outliers*: some images or objects of one set among those of another; some digits of one class (1% of the set) among the rest.
AUROC and average precision of the ranking, how many of the strangers are flagged, and how many of the set's own. Peers on the
same vectors: cleanlab's out-of-distribution score (mean distance to the ten nearest), the distance to the tenth nearest, and
an Isolation Forest; they rank only, and flag nothing. Sets with no strangers show false flags alone.

*Scale*: CPU seconds for 50,000 vectors of 256 numbers, and for a split of 50,000 images.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.report import Report, markdown, options, real_set, require_cleanlab, run
from benchmarks.sets import Crops, embed_crops, read_coco, read_voc, render_parts
from curate.checks.base import Settings, run_check
from curate.checks.findings import FLAGGED
from curate.checks.labels import Labels
from curate.checks.leaks.check import CHECK as LEAKS
from curate.checks.leaks.resplit import suggest_split
from curate.checks.outliers.isolation import find_outliers
from curate.demo import NONE, make_parts
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source
from curate.models.embedding import embed
from curate.models.encoders.registry import load_encoder
from curate.models.passes import image_items

Array = npt.NDArray[Any]

NEIGHBORS: Final = 10
RARE: Final = 18
"""Digits of the rare class: one in a hundred."""

PLANTED: Final = {"images": 6, "crops": 15}


@dataclass(frozen=True)
class Part:
    """Vectors (n, d), groups (n,) and classes (n,) of a set's images or crops."""

    vectors: Array
    groups: Array
    labels: Array | None


@dataclass(frozen=True)
class Case:
    """A set in which `strange` (n,) says what does not belong."""

    name: str
    part: Part
    strange: Array


def main() -> None:
    """Run every case."""
    parser = options(__doc__, data=True, seeds=2)
    parser.add_argument("--images", type=int, default=300, help="size of parts_v3 (default 300)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Leaks, outliers and their times."""
    require_cleanlab()
    notes: list[str] = []
    leaks = [_leaks(arguments.images, seed) for seed in range(arguments.seeds)]
    sets = _real_sets(arguments.data, notes)
    outliers = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            sets["parts_v3"] = _parts_of(render_parts(Path(folder), images=arguments.images, seed=seed))
        for case in (*_mixed(sets, seed), *_digits(seed), *_clean(sets)):
            outliers += [{"what": "outliers", "seed": seed} | row for row in _judge(case, seed)]
    scale = [_scale_outliers(), _scale_split()]
    tables = [_leaks_table(leaks), _outliers_table(outliers), _scale_table(scale)]
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images}
    return Report(settings, [*leaks, *outliers, *scale], "\n\n".join(tables), notes)


def _leaks(images: int, seed: int) -> dict[str, Any]:
    """Find what is planted, then split anew."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"CURATE_HOME": f"{folder}/home"}):
        faults = replace(NONE, leak=0.04, near_duplicate=0.02, exact_duplicate=0.02)
        parts = make_parts(Path(folder) / "parts", images=images, seed=seed, faults=faults)
        import_source(
            "parts", parts.root / "annotations", options=ReadOptions(images=parts.root / "images"), command="import"
        )
        started = time.process_time()
        found = run_check(LEAKS, "parts", Settings(encoder="builtin"), command="leaks").findings
        seconds = time.process_time() - started
        resplit = run_check(
            LEAKS, "parts", Settings(encoder="builtin", options={"resplit": True}), command="leaks --resplit"
        )
    planted = {
        frozenset(str(name).removeprefix("images/") for name in (fault.image, fault.related_image))
        for fault in parts.truth.of_kind("leak")
    }
    pairs = {frozenset((f.image, other.image)) for f in found for other in f.related if (other.score or 0.0) >= FLAGGED}
    sizes = resplit.tables["Suggested split"]
    return {
        "what": "leaks",
        "seed": seed,
        "planted": len(planted),
        "found": len(planted & pairs),
        "others": len(pairs - planted),
        "left": len(resplit.findings),
        "moved": len(resplit.tables["Moves"]),
        "largest_change": max(abs(row["after"] - row["before"]) for row in sizes),
        "cpu_s": round(seconds, 1),
    }


def _real_sets(data: Path | None, notes: list[str]) -> dict[str, dict[str, Part]]:
    readers = {"bccd": read_voc, "raccoon": read_voc, "roboflow_wagon": read_coco}
    folders = {name: real_set(data, name, notes) for name in readers}
    return {name: _parts_of(readers[name](folder)) for name, folder in folders.items() if folder is not None}


def _parts_of(labels: Labels) -> dict[str, Part]:
    crops: Crops = embed_crops(labels)
    with tempfile.TemporaryDirectory() as spool:
        found = embed(image_items(labels.images), None, load_encoder("builtin"), Path(spool)).new
    place = pc.index_in(found["id"], labels.images["image_id"].combine_chunks()).to_numpy()
    column = found["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(place), -1).astype(np.float32)
    return {
        "images": Part(vectors, labels.image_groups()[place], None),
        "crops": Part(crops.vectors, crops.groups, crops.labels),
    }


def _mixed(sets: dict[str, dict[str, Part]], seed: int) -> Iterator[Case]:
    """Some of one set in another, as images or objects of their own, with classes given at random."""
    pairs = (
        ("bccd", "raccoon"),
        ("roboflow_wagon", "bccd"),
        ("parts_v3", "raccoon"),
        ("raccoon", "parts_v3"),
        ("raccoon", "roboflow_wagon"),
        ("bccd", "parts_v3"),
        ("parts_v3", "bccd"),
    )
    rng = np.random.default_rng(seed)
    for host, guest in pairs:
        for content, count in PLANTED.items():
            if host not in sets or guest not in sets or (host, content) == ("raccoon", "crops"):
                continue
            own, others = sets[host][content], sets[guest][content]
            chosen = rng.choice(len(others.vectors), count, replace=False)
            groups = np.r_[own.groups, own.groups.max() + 1 + others.groups[chosen]]
            labels = None if own.labels is None else np.r_[own.labels, rng.choice(own.labels, count)]
            strange = np.r_[np.zeros(len(own.vectors), bool), np.ones(count, bool)]
            part = Part(np.r_[own.vectors, others.vectors[chosen]], groups, labels)
            yield Case(f"{host} {content}, {count} of {guest}", part, strange)


def _digits(seed: int) -> Iterator[Case]:
    digits = load_digits()
    centred = (digits.data - digits.data.mean(axis=0)).astype(np.float32)
    rng = np.random.default_rng(seed)
    for rare in range(10):
        few = rng.choice(np.flatnonzero(digits.target == rare), RARE, replace=False)
        rows = np.r_[np.flatnonzero(digits.target != rare), few]
        part = Part(centred[rows], np.arange(len(rows)), None)
        yield Case(f"digits, {RARE} of one class", part, digits.target[rows] == rare)


def _clean(sets: dict[str, dict[str, Part]]) -> Iterator[Case]:
    for name, parts in sets.items():
        for content, part in parts.items():
            yield Case(f"{name} {content}, none", part, np.zeros(len(part.vectors), bool))


def _judge(case: Case, seed: int) -> Iterator[dict[str, Any]]:
    """One row per method."""
    from cleanlab.outlier import OutOfDistribution

    part, strange = case.part, case.strange
    weights = 1 / np.bincount(np.unique(part.groups, return_inverse=True)[1])
    copies = weights[np.unique(part.groups, return_inverse=True)[1]] if part.labels is None else None
    found = find_outliers(part.vectors, groups=part.groups, weights=copies, labels=part.labels, seed=seed)
    flagged = found.p_outlier >= FLAGGED
    ours = {"flagged": int((flagged & strange).sum()), "false": int((flagged & ~strange).sum())}
    about = {"case": case.name, "rows": len(strange), "planted": int(strange.sum())}
    yield about | {"method": "curate"} | _ranking(strange, -np.log(found.p_value)) | ours
    if not strange.any():
        return
    scores = {
        "cleanlab": -OutOfDistribution().fit_score(features=part.vectors, verbose=False),
        "kNN": NearestNeighbors(n_neighbors=NEIGHBORS, metric="cosine").fit(part.vectors).kneighbors()[0][:, -1],
        "Isolation Forest": -IsolationForest(random_state=seed).fit(part.vectors).score_samples(part.vectors),
    }
    for method, score in scores.items():
        yield about | {"method": method} | _ranking(strange, score)


def _ranking(strange: Array, score: Array) -> dict[str, float | None]:
    if not strange.any():
        return {"auroc": None, "ap": None}
    return {
        "auroc": round(float(roc_auc_score(strange, score)), 4),
        "ap": round(float(average_precision_score(strange, score)), 4),
    }


def _scale_outliers() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50_000, 256)).astype(np.float32)
    started = time.process_time()
    find_outliers(vectors, labels=rng.integers(0, 20, len(vectors)))
    return {"what": "scale", "case": "outliers, 50,000 x 256, 20 classes", "cpu_s": time.process_time() - started}


def _scale_split() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    n = 50_000
    content = csr_array((rng.random((n, 20)) < np.linspace(0.02, 0.4, 20)).astype(float))
    unit = np.where(rng.random(n) < 0.2, rng.integers(0, n // 10, n), np.arange(n))
    split = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    started = time.process_time()
    suggest_split(split, unit, content, 3)
    return {"what": "scale", "case": "--resplit, 50,000 images, 20 classes", "cpu_s": time.process_time() - started}


def _leaks_table(results: list[dict[str, Any]]) -> str:
    columns = ["leaks in parts_v3", "found", "other pairs", "left after --resplit", "moved", "largest change of a size"]
    rows = [
        [
            f"{row['planted']} planted, seed {row['seed']}",
            row["found"],
            row["others"],
            row["left"],
            row["moved"],
            row["largest_change"],
        ]
        for row in results
    ]
    return markdown(columns, rows)


def _outliers_table(results: list[dict[str, Any]]) -> str:
    methods = ("curate", "cleanlab", "kNN", "Isolation Forest")
    columns = ["strangers", "rows", *(f"{name}: AUROC / AP" for name in methods), "flagged", "false"]
    rows = []
    for case in dict.fromkeys(row["case"] for row in results):
        mine = [row for row in results if row["case"] == case]
        cells = []
        for method in methods:
            own = [row for row in mine if row["method"] == method and row["auroc"] is not None]
            cells.append(
                " / ".join(f"{np.mean([row[key] for row in own]):.3f}" for key in ("auroc", "ap")) if own else "-"
            )
        ours = [row for row in mine if row["method"] == "curate"]
        counts = [f"{np.mean([row[key] for row in ours]):.1f}" for key in ("flagged", "planted", "false")]
        rows.append([case, mine[0]["rows"], *cells, f"{counts[0]} of {counts[1]}", counts[2]])
    return markdown(columns, rows)


def _scale_table(results: list[dict[str, Any]]) -> str:
    return markdown(["scale", "CPU s"], [[row["case"], f"{row['cpu_s']:.1f}"] for row in results])


if __name__ == "__main__":
    main()
