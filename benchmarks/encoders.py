"""How much the vectors of the built-in encoder tell, next to raw pixels, HOG, a random network and one trained on COCO.

    python -m benchmarks.encoders [--data FOLDER] [--domains FOLDER] [--encoder SPEC ...] [--only PART ...]
                                  [--vectors NAME ...] [--json FILE]

Classes: accuracy in per cent of a linear probe (ridge regression over five folds, which keep pictures of one source together)
and of the 10 nearest neighbours from other sources, on scikit-learn's digits, views of places in its two photographs, views of
40 rendered parts, crops of rendered parts and, where the data folder is given, of BCCD, raccoon and wagon.

Copies: per cent of whole pictures that are the nearest to a changed copy of themselves, among those of all sets.

Domains: class and domain by the 10 nearest neighbours, and the class by those of other domains only: parts under four lamps,
pictures of all sets in five styles, and any folder DOMAIN/CLASS/FILE, such as PACS (Li et al., ICCV 2017).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from benchmarks.changes import COPIES
from benchmarks.encoder_methods import Method, choose_methods, encode
from benchmarks.encoder_sets import REAL, RENDERED, Task, in_styles, originals, read_domains
from benchmarks.report import Report, markdown, options, real_set, run
from curate.imaging import Pixels
from curate.models.encoders.base import Vectors

SETS: Final = (*RENDERED, *REAL)
PARTS: Final = (*SETS, "copies", "lamps", "styles", "domains")
STYLED: Final = ("digits", "parts", *REAL)
"""Sets of which some pictures are put into styles."""

NEIGHBORS: Final = 10


def main() -> None:
    """Run every set and encoder."""
    parser = options(__doc__, data=True)
    parser.add_argument("--domains", type=Path, metavar="FOLDER", help="pictures laid out as DOMAIN/CLASS/FILE")
    parser.add_argument("--encoder", action="append", default=[], help="an encoder's spec, to be compared as well")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="run these sets and tables only")
    parser.add_argument("--vectors", nargs="+", metavar="NAME", help="compare these only, named as in the tables")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set by every method."""
    cv2.setNumThreads(1)
    notes: list[str] = []
    wanted = set(arguments.only)
    load = _loader(arguments.data, notes)
    tasks = [task for name in SETS if name in wanted and (task := load(name)) is not None]
    domains = list(_domain_tasks(arguments, load, notes))
    whole = originals(arguments.data) if "copies" in wanted else []
    results = [_largest_class(task) for task in tasks]
    for name, make in choose_methods(arguments.vectors, arguments.encoder, arguments.data, notes).items():
        method = make()
        encode(method, [np.zeros((32, 32, 3), np.uint8)])  # what is done once, at the first call, is not timed
        results += [tell_classes(task, name, method) for task in tasks]
        results += [find_copies(whole, name, method)] if whole else []
        results += [tell_domains(task, name, method) for task in domains]
    settings = {"parts": [name for name in PARTS if name in wanted], "whole pictures": len(whole)}
    return Report(settings, results, _tables(results), notes)


def tell_classes(task: Task, name: str, method: Method) -> dict[str, Any]:
    """Accuracies and time of one method on one set."""
    began = time.process_time()
    X = encode(method, task.images)
    milliseconds = 1000 * (time.process_time() - began) / len(X)
    y, groups = np.array(task.labels), np.array(task.groups)
    folds = StratifiedGroupKFold(5).split(X, y, groups)
    linear = cross_val_score(RidgeClassifierCV(np.logspace(-3, 1, 5)), X, y, cv=list(folds)).mean()
    return _about(task, name) | {
        "linear": round(100 * float(linear), 1),
        "neighbors": round(100 * neighbors_agree(X, y, groups), 1),
        "dimensions": X.shape[1],
        "ms": round(milliseconds, 2),
    }


def find_copies(whole: Sequence[Pixels], name: str, method: Method) -> dict[str, Any]:
    """Recall@1 of every kind of copy."""
    X = encode(method, whole)
    found: dict[str, Any] = {"part": "copies", "images": len(whole), "vectors": name}
    for kind, change in COPIES.items():
        rng = np.random.default_rng(1)
        copies = encode(method, [change(pixels, rng) for pixels in whole])
        nearest = (copies @ X.T).argmax(axis=1)
        found[kind] = round(100 * float((nearest == np.arange(len(X))).mean()), 1)
    return found


def tell_domains(task: Task, name: str, method: Method) -> dict[str, Any]:
    """Class and domain of one set by one method, by the nearest neighbours."""
    X = encode(method, task.images)
    classes, groups, domains = (np.array(column) for column in (task.labels, task.groups, task.domains))
    return _about(task, name) | {
        "part": "domains",
        "domains": len(set(task.domains)),
        "class": round(100 * neighbors_agree(X, classes, groups), 1),
        "class_across": round(100 * neighbors_agree(X, classes, groups, domains), 1),
        "domain": round(100 * neighbors_agree(X, domains, groups), 1),
    }


def neighbors_agree(X: Vectors, y: npt.NDArray[Any], *apart: npt.NDArray[Any], k: int = NEIGHBORS) -> float:
    """How often most of a row's nearest neighbours have its label, each row in turn left out.

    Args:
        X: Unit vectors, shape (n, d).
        y: Labels, shape (n,).
        apart: Arrays of shape (n,): rows that are equal in one of them are never each other's neighbours.
        k: How many neighbours vote; of labels with as many votes the one with the more similar voters wins.

    Returns:
        Part of the rows, in [0, 1]; a row without any neighbour counts as wrong.
    """
    names, labels = np.unique(y, return_inverse=True)
    right = 0
    for start in range(0, len(X), 1000):
        rows = np.arange(start, min(start + 1000, len(X)))
        similar = X[rows] @ X.T
        similar[np.arange(len(rows)), rows] = -np.inf
        for key in apart:
            similar[key[rows, None] == key] = -np.inf
        near = np.argsort(-similar, axis=1)[:, :k]
        similarity = np.take_along_axis(similar, near, axis=1)
        # A whole vote, and less than a vote between all of them for how similar they are.
        weight = np.where(np.isfinite(similarity), 1 + (1 + similarity) / (4 * k), 0)
        votes = np.zeros((len(rows), len(names)))
        np.add.at(votes, (np.arange(len(rows))[:, None], labels[near]), weight)
        right += int(((votes.argmax(axis=1) == labels[rows]) & (votes.max(axis=1) > 0)).sum())
    return right / len(X)


def _loader(data: Path | None, notes: list[str]) -> Callable[[str], Task | None]:
    """Loads each set once; None, and a note, where it is not there."""

    @cache
    def load(name: str) -> Task | None:
        if name in RENDERED:
            return RENDERED[name]()
        source = real_set(data, name, notes)
        return None if source is None else REAL[name](source)

    return load


def _domain_tasks(
    arguments: argparse.Namespace, load: Callable[[str], Task | None], notes: list[str]
) -> Iterator[Task]:
    """The sets whose pictures have a domain."""
    if "lamps" in arguments.only and (parts := load("parts")) is not None:
        yield replace(parts, name="lamps")
    if "styles" in arguments.only:
        yield in_styles([task for name in STYLED if (task := load(name)) is not None])
    if "domains" in arguments.only and arguments.domains is not None:
        yield read_domains(arguments.domains)
    elif "domains" in arguments.only:
        notes.append("no folder is given by --domains, so real photographs, paintings and sketches are left out")


def _about(task: Task, name: str) -> dict[str, Any]:
    counts = {"images": len(task.images), "classes": len(set(task.labels))}
    return {"part": "classes", "set": task.name, **counts, "vectors": name}


def _largest_class(task: Task) -> dict[str, Any]:
    """What is right by chance."""
    share = round(100 * max(Counter(task.labels).values()) / len(task.labels), 1)
    return _about(task, "the largest class") | {"linear": share, "neighbors": share, "dimensions": 0, "ms": 0.0}


def _tables(results: Sequence[dict[str, Any]]) -> str:
    """One table for each part that was run: a row per method, a column per set or kind of copy."""
    shown = {part: [row for row in results if row["part"] == part] for part in ("classes", "copies", "domains")}
    tables = []
    if shown["classes"]:
        tables.append(
            _table("linear / 10-NN", shown["classes"], lambda row: f"{row['linear']:.1f} / {row['neighbors']:.1f}")
        )
    if shown["copies"]:
        rows = [
            [row["vectors"], *(row[kind] for kind in COPIES), f"{np.mean([row[kind] for kind in COPIES]):.1f}"]
            for row in shown["copies"]
        ]
        tables.append(markdown(["recall@1", *COPIES, "mean"], rows))
    if shown["domains"]:
        tables.append(
            _table(
                "class / across / domain",
                shown["domains"],
                lambda row: f"{row['class']:.1f} / {row['class_across']:.1f} / {row['domain']:.1f}",
            )
        )
    return "\n\n".join(tables)


def _table(title: str, rows: Sequence[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> str:
    """A row per method, a column per set; where time was taken, its mean over the sets, and the length of a vector."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    timed = "ms" in rows[0]
    table = []
    for name in dict.fromkeys(row["vectors"] for row in rows):
        mine = [row for row in rows if row["vectors"] == name]
        cells = [name, *map(cell, mine)]
        if timed:
            images = sum(row["images"] for row in mine)
            milliseconds = sum(row["ms"] * row["images"] for row in mine) / images
            cells += [str(mine[0]["dimensions"]), f"{milliseconds:.1f}"]
        table.append(cells)
    return markdown([title, *sets, *(["numbers", "ms"] if timed else [])], table)


if __name__ == "__main__":
    main()
