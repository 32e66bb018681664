"""What images are scored by that other commands have put into the dataset: layers of predictions, and findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.findings import Finding, to_table
from curate.checks.labels import Labels, load_labels, load_predictions
from curate.dataset import begin, open_dataset
from curate.dataset.schema import ANNOTATIONS, IMAGES, LINKS
from curate.loop.candidates import load_candidates, parse_budget, targets_of
from curate.loop.copies import known_copies
from curate.loop.layer_doubt import layer_disagreement, layer_doubt
from curate.loop.suspects import failing_slices, open_mistakes

CLASSES = ("cat", "dog")


def box(image: int, layer: str, label: str, score: float | None = None, **more: Any) -> dict[str, Any]:
    kind = {"type": "box", "bbox": [0.0, 0.0, 10.0, 10.0], "layer": layer, "label": label, "score": score}
    return {"image_id": f"{image:016x}", **kind, **more}


def make(
    rows: Sequence[dict[str, Any]], findings: Sequence[Finding] = (), links: Sequence[dict[str, Any]] = ()
) -> None:
    """A dataset of eight images."""
    images = [{"image_id": f"{n:016x}", "location": f"{n}.png", "content_hash": f"{min(n, 6)}"} for n in range(8)]
    numbered = [{"annotation_id": f"{n:016x}", **row} for n, row in enumerate(rows)]
    with begin("animals", command="test", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(images, schema=IMAGES)])
        transaction.append("annotations", [pa.Table.from_pylist(numbered, schema=ANNOTATIONS)])
        transaction.append("findings", [to_table(list(findings))])
        transaction.append("links", [pa.Table.from_pylist(list(links), schema=LINKS)])
        transaction.classes = [{"name": name} for name in CLASSES]


def layers(rows: Sequence[dict[str, Any]]) -> list[Labels]:
    make(rows)
    dataset = open_dataset("animals")
    return list(load_predictions(dataset, load_labels(dataset, "ground_truth", None), None, []).values())


def ids() -> pa.ChunkedArray:
    return open_dataset("animals").table("images")["image_id"]


def finding(image: int, kind: Any, score: float, check: str, **more: Any) -> Finding:
    return Finding(kind, score, f"{image}.png", f"{image:016x}", check, **more)


def test_doubt_of_boxes_is_added() -> None:
    layer = "predictions/a"
    (model,) = layers([box(0, layer, "cat", 0.5), box(0, layer, "dog", 0.9), box(1, layer, "cat", 1.0)])
    found = layer_doubt(model, "margin")
    np.testing.assert_allclose(found.values[:2], [1.2, 0.0], atol=1e-6)
    assert np.isnan(found.values[2:]).all()  # two of eight images: nobody knows whether the others were looked at
    assert found.why(0) == "predictions/a doubts 'cat' 0.50, 'dog' 0.90 (of 2 found)"


def test_probabilities_come_before_confidence() -> None:
    layer = "predictions/a"
    rows = [box(n, layer, "cat", 0.99, probabilities=[0.5 + n / 20, 0.5 - n / 20]) for n in range(7)]
    found = layer_doubt(layers(rows)[0], "margin")
    np.testing.assert_allclose(found.values, [1 - n / 10 for n in range(7)] + [0.0], atol=1e-6)
    assert found.why(7) == "predictions/a finds nothing"


def test_doubt_of_whole_images() -> None:
    layer = "predictions/a"
    rows = [{**box(n, layer, "cat", 0.5 + n / 20), "type": "label", "bbox": None} for n in range(4)]
    found = layer_doubt(layers(rows)[0], "margin")
    np.testing.assert_allclose(found.values[:4], [1.0, 0.9, 0.8, 0.7], atol=1e-6)
    assert np.isnan(found.values[4:]).all()
    assert found.why(1) == "predictions/a wavers: 'cat' 0.55 or 'dog' 0.45"


def test_layers_disagree_class_by_class() -> None:
    rows = [box(n, f"predictions/{name}", "cat", 0.9) for n in range(8) for name in "ab"]
    rows += [box(3, "predictions/a", "dog", 0.95), box(3, "predictions/a", "dog", 0.2)]
    found = layer_disagreement(layers(rows))
    assert found.values.argmax() == 3
    assert found.values[0] == pytest.approx(0, abs=1e-9)
    assert found.why(3) == "layers disagree on 'dog': predictions/a 0.95, predictions/b 0.00"


def test_layers_disagree_on_whole_images() -> None:
    rows = [
        {**box(n, f"predictions/{name}", "dog" if (n, name) == (2, "b") else "cat", 0.9), "type": "label", "bbox": None}
        for n in range(4)
        for name in "ab"
    ]
    found = layer_disagreement(layers(rows))
    assert found.values[2] > 0.3
    np.testing.assert_allclose(found.values[[0, 1, 3]], 0, atol=1e-9)


def test_suspicion_adds_up_what_is_open() -> None:
    found = [
        finding(1, "mislabeled", 0.5, "mistakes", annotation_id="a" * 16, given="cat", suggested="dog"),
        finding(1, "spurious", 0.4, "mistakes", annotation_id="b" * 16),
        finding(2, "mislabeled", 0.6, "mistakes"),
        finding(3, "mislabeled", 0.9, "mistakes", status="rejected"),
        finding(4, "blurry", 0.9, "quality"),
    ]
    make([], found)
    with begin("animals", command="test") as transaction:
        scores = open_mistakes(transaction, ids())
    np.testing.assert_allclose(scores.values[[1, 2]], [0.7, 0.6])
    assert np.isnan(np.delete(scores.values, [1, 2])).all()
    assert scores.why(1) == "mislabeled 0.50 'cat' -> 'dog'; 1 more finding"


def test_slices_reach_images_that_look_like_theirs() -> None:
    evidence = {"why": "the model errs on 80% of the images with a red lamp", "slice": "red lamp"}
    make([], [finding(n, "shifted", 0.6, "shift", evidence=evidence) for n in (0, 1)])
    vectors = np.array([[1, 0]] * 4 + [[0, 1]] * 4, np.float32) + np.linspace(0, 0.01, 16, dtype=np.float32).reshape(
        8, 2
    )
    with begin("animals", command="test") as transaction:
        scores = failing_slices(transaction, ids(), vectors, seed=0)
    assert scores.values[:2].tolist() == [0.6, 0.6]
    assert (scores.values[2:] < 0.6).all()
    assert scores.why(0) == evidence["why"]
    assert scores.why(2) == "2 of its 10 nearest are of a slice that fails: red lamp"


def test_who_may_be_chosen() -> None:
    link = {"remote": "labelstudio://host/projects/1", "kind": "image", "remote_id": "7"}
    links = [
        {**link, "local_id": f"{5:016x}", "work": "handed in"},
        {**link, "local_id": f"{6:016x}", "remote_id": "8"},
    ]
    make([box(0, "ground_truth", "cat"), box(1, "predictions/a", "cat", 0.5)], links=links)
    with begin("animals", command="test") as transaction:
        found = load_candidates(transaction, None, suspected=False, notes=[])
    # 0 has a label; on 5 people have handed in that there is nothing; 6 still lies with them, and a prediction is no label.
    assert np.flatnonzero(found.may).tolist() == [1, 2, 3, 4, 6, 7]
    assert np.flatnonzero(found.labelled).tolist() == [0, 5]


def test_targets() -> None:
    make([box(0, "ground_truth", "cat"), box(0, "ground_truth", "dog"), box(3, "ground_truth", "dog")])
    labels = load_labels(open_dataset("animals"), "ground_truth", None)
    found = targets_of(labels, np.array([0, 2, 3]))
    assert found.several
    assert found.rows.tolist() == [0, 2]
    assert found.there.tolist() == [[True, True], [False, True]]


def test_known_copies() -> None:
    related = [{"image": "2.png", "image_id": f"{2:016x}", "annotation_id": None, "score": 0.9}]
    found = [finding(n, "near_duplicate", 0.9, "duplicates") for n in (1, 3)]
    rows = to_table(found).to_pylist()
    assert json.loads(rows[0]["evidence"]) == {}
    make([], found)
    with begin("animals", command="test") as transaction:
        stored = [
            {**row, "related": related, "status": "rejected" if "3.png" in row["image"] else "open"} for row in rows
        ]
        transaction.overwrite("findings", [pa.Table.from_pylist(stored, schema=to_table([]).schema)])
        groups = known_copies(transaction, ids())
    assert groups[1] == groups[2]
    assert groups[6] == groups[7]  # the same bytes
    assert len(np.unique(groups)) == 6


@pytest.mark.parametrize(("text", "count"), [("7", 7), ("5%", 10), ("0.1%", 1), ("100%", 200), (" 12 ", 12)])
def test_budgets(text: str, count: int) -> None:
    assert parse_budget(text, 200) == count
