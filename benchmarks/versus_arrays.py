"""Contenders of `benchmarks.versus` that work on arrays: vectors, probabilities, boxes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.versus_files import Contender, Work

THRESHOLD: Final = 0.9
"""Cosine similarity from which on two vectors are near-duplicates."""
FEW: Final = 500


def _vectors(folder: Path) -> Any:
    return np.load(folder / "vectors.npy")


def _curate_pairs(folder: Path) -> Work:
    from curate.checks.duplicates.search import pairs_above

    vectors = _vectors(folder)
    pairs_above(vectors[:FEW], THRESHOLD)
    return lambda: len(pairs_above(vectors, THRESHOLD)[0])


def _faiss_pairs(folder: Path) -> Work:
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)
    vectors = _vectors(folder)

    def work(rows: int = len(vectors)) -> int:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors[:rows])
        limits, _, near = index.range_search(vectors[:rows], THRESHOLD)
        return int((near > np.repeat(np.arange(rows), np.diff(limits.astype(np.int64)))).sum())

    work(min(FEW, len(vectors)))
    return work


def _cleanlab_pairs(folder: Path) -> Work:
    """As its near-duplicate issues do: the graph of the ten nearest, and what in it is close."""
    graph_of = import_module("cleanlab.internal.neighbor.knn_graph").create_knn_graph_and_index
    vectors = _vectors(folder)

    def work(rows: int = len(vectors)) -> int:
        graph = graph_of(vectors[:rows], metric="cosine", correct_exact_duplicates=False)[0].tocoo()
        return int(((graph.data <= 1 - THRESHOLD) & (graph.row < graph.col)).sum())

    work(min(FEW, len(vectors)))
    return work


def _samples(count: int) -> Any:
    fiftyone = import_module("fiftyone")
    dataset = fiftyone.Dataset()
    tags = ("train", "test")
    dataset.add_samples(
        [fiftyone.Sample(f"/nowhere/{number}.jpg", tags=[tags[number % 3 % 2]]) for number in range(count)],
        progress=False,
    )
    return dataset


def _fiftyone_pairs(folder: Path) -> Work:
    brain, vectors = import_module("fiftyone.brain"), _vectors(folder)
    few, all_of_them = _samples(min(FEW, len(vectors))), _samples(len(vectors))

    def work(samples: Any = all_of_them) -> int:
        index = brain.compute_near_duplicates(samples, threshold=1 - THRESHOLD, embeddings=vectors[: len(samples)])
        return sum(map(len, index.neighbors_map.values()))

    work(few)
    return work


def _curate_leaks(folder: Path) -> Work:
    from curate.checks.duplicates.pairs import NEAR, certain_pairs
    from curate.checks.duplicates.search import pairs_above
    from curate.checks.leaks.links import links_across

    vectors = _vectors(folder)

    def work(rows: int = len(vectors)) -> int:
        first, second, _ = pairs_above(vectors[:rows], THRESHOLD)
        pairs = certain_pairs(first, second, NEAR)
        numbers = np.arange(rows)
        return len(links_across(pairs, numbers % 3 % 2, np.full(rows, -1), numbers.astype(np.float64)))

    work(min(FEW, len(vectors)))
    return work


def _fiftyone_leaks(folder: Path) -> Work:
    brain, vectors = import_module("fiftyone.brain"), _vectors(folder)
    few, all_of_them = _samples(min(FEW, len(vectors))), _samples(len(vectors))

    def work(samples: Any = all_of_them) -> int:
        given = {"embeddings": vectors[: len(samples)], "threshold": 1 - THRESHOLD}
        return len(brain.compute_leaky_splits(samples, ["train", "test"], **given).leak_ids)

    work(few)
    return work


# ---- probabilities


def _labels(folder: Path) -> tuple[Any, Any]:
    with np.load(folder / "labels.npz") as labels:
        return np.load(folder / "probabilities.npy"), labels["given"]


def _curate_labels(folder: Path) -> Work:
    from curate.checks.mistakes.labels import label_errors_from_probabilities as find

    probabilities, given = _labels(folder)
    find(probabilities[:FEW].copy(), given[:FEW])
    return lambda: int(find(probabilities, given).flagged.sum())


def _cleanlab_labels(folder: Path) -> Work:
    find = import_module("cleanlab.filter").find_label_issues
    probabilities, given = _labels(folder)
    find(given[:FEW], probabilities[:FEW], n_jobs=1)
    return lambda: int(find(given, probabilities, n_jobs=1).sum())


def _cleanlab_batched(folder: Path) -> Work:
    find = import_module("cleanlab.experimental.label_issues_batched").find_label_issues_batched
    probabilities, given = _labels(folder)
    find(given[:FEW], probabilities[:FEW], batch_size=10_000, n_jobs=1, verbose=False)
    return lambda: len(find(given, probabilities, batch_size=10_000, n_jobs=1, verbose=False))


def _read_once(folder: Path) -> Work:
    probabilities, _ = _labels(folder)
    return lambda: int(probabilities.max(axis=1).sum() > 0)


# ---- boxes


def _boxes(folder: Path) -> tuple[Any, Any, Any]:
    from curate.checks.boxes import Boxes

    with np.load(folder / "boxes.npz") as stored:
        columns = dict(stored)
    truth = Boxes(columns["truth_image"], columns["truth_bbox"], columns["truth_label"])
    sizes = columns["sizes"]
    said = {name: columns[name] for name in ("image", "bbox", "label", "score")}
    return truth, Boxes(**said, covered=np.arange(len(sizes))), sizes


def _curate_boxes(folder: Path) -> Work:
    from curate.checks.mistakes.detection import detection_errors

    truth, predicted, sizes = _boxes(folder)
    few = truth.take(truth.image < FEW)
    detection_errors(few, [predicted.take(predicted.image < FEW)], sizes=sizes, min_score=0.05)
    return lambda: len(detection_errors(truth, [predicted], sizes=sizes, min_score=0.05))


def _by_image(columns: Mapping[str, Any], images: int) -> tuple[list[Any], list[Any]]:
    """The lists of labels and predictions, one entry an image, that ObjectLab takes; images without a label left out."""
    classes = int(max(columns["truth_label"].max(), columns["label"].max())) + 1
    labels, kept = [], []
    for image, rows in enumerate(_rows_of(columns["truth_image"], images)):
        if len(rows):
            labels.append({"bboxes": _corners(columns["truth_bbox"][rows]), "labels": columns["truth_label"][rows]})
            kept.append(image)
    theirs = _rows_of(columns["image"], images)
    boxes = np.c_[_corners(columns["bbox"]), columns["score"]]
    predictions = []
    for image in kept:
        rows = theirs[image]
        entry = np.empty(classes, dtype=object)
        entry[:] = [boxes[rows[columns["label"][rows] == label]] for label in range(classes)]
        predictions.append(entry)
    return labels, predictions


def _rows_of(image: Any, images: int) -> list[Any]:
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))


def _corners(bbox: Any) -> Any:
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)


def _cleanlab_boxes(folder: Path) -> Work:
    """ObjectLab's three scores."""
    rank = import_module("cleanlab.object_detection.rank")
    with np.load(folder / "boxes.npz") as stored:
        columns = dict(stored)
    labels, predictions = _by_image(columns, len(columns["sizes"]))

    def work(images: int = len(labels)) -> int:
        given = {"labels": labels[:images], "predictions": predictions[:images]}
        kinds = (rank.compute_swap_box_scores, rank.compute_badloc_box_scores, rank.compute_overlooked_box_scores)
        return sum(int(sum(map(len, kind(**given)))) for kind in kinds)

    work(20)
    return work


def _overlaps(folder: Path) -> Work:
    from curate.checks.mistakes.matching import overlapping_pairs

    truth, predicted, _ = _boxes(folder)
    return lambda: len(overlapping_pairs(truth, predicted, min_iou=0.0).first)


def _curate_evaluation(folder: Path) -> Work:
    from curate.checks.evaluation.average_precision import coco_scores
    from curate.checks.evaluation.matching import match_objects
    from curate.checks.evaluation.objects import Objects
    from curate.checks.evaluation.overlaps import box_overlaps

    truth, predicted, _ = _boxes(folder)

    def objects(boxes: Any) -> Objects:
        boxes = boxes.take(np.argsort(boxes.image, kind="stable"))
        n = len(boxes)
        score = np.ones(n) if boxes.score is None else boxes.score
        area, crowd = boxes.bbox[:, 2] * boxes.bbox[:, 3], np.zeros(n, dtype=bool)
        return Objects(boxes.image, boxes.label, boxes.bbox, area, score, crowd, np.arange(n))

    true, said = objects(truth), objects(predicted)
    classes = int(truth.label.max()) + 1

    def work(true: Objects = true, said: Objects = said) -> int:
        matches = match_objects(said, true, box_overlaps(said, true))
        return round(1e6 * (coco_scores(matches, classes).summary()["AP"] or 0.0))

    work(true.take(true.image < FEW), said.take(said.image < FEW))
    return work


def _pycocotools_evaluation(folder: Path) -> Work:
    coco, evaluation = import_module("pycocotools.coco").COCO, import_module("pycocotools.cocoeval").COCOeval
    with np.load(folder / "boxes.npz") as stored:
        columns = dict(stored)
    images, classes = len(columns["sizes"]), int(columns["truth_label"].max()) + 1
    shared = {"images": [{"id": k} for k in range(images)], "categories": [{"id": k} for k in range(classes)]}
    sides = []
    for prefix in ("truth_", ""):
        names = [columns[f"{prefix}{name}"].tolist() for name in ("image", "label", "bbox")]
        score = columns["score"].tolist() if not prefix else [1.0] * len(names[0])
        side = coco()
        side.dataset = {**shared, "annotations": [
            {"id": k + 1, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "score": s}
            for k, (i, c, b, s) in enumerate(zip(*names, score, strict=True))
        ]}  # fmt: skip
        with redirect_stdout(StringIO()):
            side.createIndex()
        sides.append(side)

    def work() -> int:
        with redirect_stdout(StringIO()):
            judge = evaluation(*sides, "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return round(1e6 * float(judge.stats[0]))

    return work


PAIRS: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_pairs),
    "FiftyOne": Contender("fiftyone", _fiftyone_pairs),
    "cleanlab": Contender("cleanlab", _cleanlab_pairs),
    "limit": Contender("faiss", _faiss_pairs),
}
LEAKS: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_leaks),
    "FiftyOne": Contender("fiftyone", _fiftyone_leaks),
    "limit": Contender("faiss", _faiss_pairs),
}
LABEL_ERRORS: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_labels),
    "cleanlab": Contender("cleanlab", _cleanlab_labels),
    "cleanlab batched": Contender("cleanlab", _cleanlab_batched),
    "limit": Contender("numpy", _read_once),
}
BOX_ERRORS: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_boxes),
    "cleanlab": Contender("cleanlab", _cleanlab_boxes),
    "limit": Contender("curate", _overlaps),
}
EVALUATION: Final[Mapping[str, Contender]] = {
    "curate": Contender("curate", _curate_evaluation),
    "pycocotools": Contender("pycocotools", _pycocotools_evaluation),
    "limit": Contender("curate", _overlaps),
}
