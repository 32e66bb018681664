"""Wrong class labels, end to end."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from curate.checks.mistakes import labels as module
from curate.checks.mistakes.labels import find_label_errors, label_errors_from_probabilities
from curate.errors import InputError

Array = npt.NDArray[Any]


def blobs(
    n: int = 600, classes: int = 4, distance: float = 4.0, flips: float = 0.08, seed: int = 0, dimensions: int = 16
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dimensions))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    true = rng.integers(0, classes, n)
    vectors = (centres[true] + rng.normal(0, 0.7, (n, dimensions))).astype(np.float32)
    wrong = rng.permutation(n) < round(flips * n)
    return vectors, np.where(wrong, (true + 1) % classes, true), true


def f1(flagged: Array, wrong: Array) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


def test_planted_errors_are_found_and_corrected() -> None:
    vectors, labels, true = blobs()
    found = find_label_errors(vectors, labels, 4)
    wrong = labels != true
    assert f1(found.flagged, wrong) > 0.95
    assert (found.suggested == true)[wrong].all()
    assert found.p_wrong.mean() == pytest.approx(0.08, abs=0.015)
    assert found.noise_matrix[0, 1] > 5 * found.noise_matrix[0, 2]
    assert found.neighbors is not None
    assert (labels[found.neighbors.indices] == true[:, None]).mean() > 0.85


@pytest.mark.parametrize("distance", [4.0, 1.5])
def test_clean_sets_give_no_alarms(distance: float) -> None:
    vectors, labels, _ = blobs(flips=0, distance=distance)
    assert find_label_errors(vectors, labels, 4).flagged.sum() <= 3


def test_copies_with_the_same_wrong_label_do_not_hide_one_another() -> None:
    vectors, labels, true = blobs(flips=0)
    vectors[:4] = vectors[0]
    labels[:4], true[:4] = (true[0] + 1) % 4, true[0]
    found = find_label_errors(vectors, labels, 4)
    assert sorted(np.argsort(-found.p_wrong)[:4]) == [0, 1, 2, 3]
    assert (found.p_given[:4] < 0.1).all()
    assert (found.suggested[:4] == true[0]).all()


def test_digits_with_real_errors_planted() -> None:
    digits = load_digits()
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(digits.target)) < 36
    labels = np.where(wrong, (digits.target + rng.integers(1, 10, len(wrong))) % 10, digits.target)
    found = find_label_errors(digits.data.astype(np.float32), labels, 10)
    assert f1(found.flagged, wrong) > 0.9
    assert wrong[np.argsort(-found.p_wrong)[:20]].all()


def test_same_seed_same_answer_and_probabilities_are_probabilities() -> None:
    vectors, labels, _ = blobs(200)
    first, second = (find_label_errors(vectors, labels, 4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.p_wrong, second.p_wrong)
    assert ((first.p_wrong >= 0) & (first.p_wrong <= 1)).all()


def test_classes_that_no_row_has_are_never_suggested() -> None:
    vectors, labels, _ = blobs(200)
    found = find_label_errors(vectors, labels * 3 + 1, 20)
    assert set(found.suggested) <= {1, 4, 7, 10}
    assert found.noise_matrix.shape == (20, 20)
    assert found.noise_matrix.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 9])
def test_few_rows(n: int) -> None:
    vectors, labels, _ = blobs(20, classes=2, flips=0)
    found = find_label_errors(vectors[:n], labels[:n], 2)
    assert found.p_wrong.shape == (n,)
    assert not found.flagged.any()


def test_one_class() -> None:
    vectors = blobs(50)[0]
    assert (find_label_errors(vectors, np.zeros(50, dtype=int), 1).p_wrong == 0).all()
    found = find_label_errors(vectors, np.full(50, 2), 4)
    assert (found.p_wrong == 0).all()
    assert (found.suggested == 2).all()
    probabilities = np.ones((5, 1), dtype=np.float32)
    assert (label_errors_from_probabilities(probabilities, np.zeros(5, dtype=int)).p_wrong == 0).all()


def test_a_class_with_one_example() -> None:
    vectors, labels, true = blobs()
    labels[7] = 4
    found = find_label_errors(vectors, labels, 5)
    others = np.arange(600) != 7
    assert f1(found.flagged[others], (labels != true)[others]) > 0.93
    assert np.isfinite(found.p_wrong).all()


@pytest.mark.parametrize("vectors", [np.zeros((60, 5)), np.ones((60, 5)), np.repeat(np.eye(3), 20, axis=0)])
def test_vectors_that_say_nothing_or_repeat(vectors: Array) -> None:
    labels = np.arange(60) // 20
    found = find_label_errors(vectors.astype(np.float32), labels, 3)
    assert np.isfinite(found.p_wrong).all()
    assert not found.flagged.any()


def test_all_rows_in_one_group() -> None:
    vectors, labels, true = blobs(200)
    found = find_label_errors(vectors, labels, 4, groups=np.zeros(200, dtype=int))
    assert f1(found.flagged, labels != true) > 0.8


@pytest.mark.slow
def test_a_thousand_classes_with_few_examples_each() -> None:
    vectors, labels, true = blobs(4000, classes=1000, distance=9.0, flips=0.03, dimensions=64)
    found = find_label_errors(vectors, labels, 1000)
    wrong = labels != true
    assert wrong[np.argsort(-found.p_wrong)[:60]].mean() > 0.9
    assert found.flagged.sum() < 2.1 * wrong.sum()
    assert (found.suggested == true)[wrong].mean() > 0.9


def test_a_large_set_is_searched_in_cells_and_fitted_on_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(module, "_FIT_ROWS", (500, 500))
    monkeypatch.setattr("curate.checks.mistakes.probe._TRAINING_ROWS", 800)
    vectors, labels, true = blobs(12_000, dimensions=8)
    found = find_label_errors(vectors, labels, 4)
    assert found.neighbors is not None
    assert not found.neighbors.exact
    assert f1(found.flagged, labels != true) > 0.9


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.full(6, 0.2), 500).astype(np.float32), rng.integers(0, 6, 500)
    whole = label_errors_from_probabilities(probabilities, labels)
    monkeypatch.setattr(module, "_BLOCK_PROBABILITIES", 60)
    np.testing.assert_allclose(label_errors_from_probabilities(probabilities, labels).p_wrong, whole.p_wrong, rtol=1e-4)


def test_probabilities_need_not_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.full(6, 0.2), 500), rng.integers(0, 6, 500)
    scaled = label_errors_from_probabilities(probabilities * rng.uniform(0.2, 5, (500, 1)), labels)
    np.testing.assert_allclose(
        scaled.p_wrong, label_errors_from_probabilities(probabilities, labels).p_wrong, atol=1e-3
    )


def test_memory_does_not_grow_with_the_probabilities() -> None:
    probabilities = np.full((400_000, 50), 0.02, dtype=np.float32)
    labels = np.arange(400_000) % 50
    tracemalloc.start()
    label_errors_from_probabilities(probabilities, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < probabilities.nbytes


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_bad_probabilities_name_the_row(value: float) -> None:
    probabilities = np.full((10, 3), 1 / 3)
    probabilities[6, 1] = value
    with pytest.raises(InputError, match="row 6"):
        label_errors_from_probabilities(probabilities, np.zeros(10, dtype=int))


def test_bad_input_is_named() -> None:
    vectors, labels, _ = blobs(20)
    with pytest.raises(InputError, match=r"label 9 is not in \[0, 4\)"):
        find_label_errors(vectors, np.where(np.arange(20) == 3, 9, labels), 4)
    with pytest.raises(InputError, match="20 integers"):
        find_label_errors(vectors, labels.astype(float), 4)
    with pytest.raises(InputError, match="groups"):
        find_label_errors(vectors, labels, 4, groups=np.zeros(3, dtype=int))
    vectors[5, 2] = np.nan
    with pytest.raises(InputError, match="row 5"):
        find_label_errors(vectors, labels, 4)


@pytest.mark.parametrize(("rows", "classes"), [(40, 2), (60, 2), (120, 2), (60, 5), (60, 10), (300, 2)])
def test_labels_that_nothing_explains_are_not_called_wrong(rows: int, classes: int) -> None:
    """Coin tosses are ambiguous, not wrong: on a few dozen of them chance must not pass for knowledge."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        vectors = random.normal(size=(rows, 200)).astype(np.float32)
        found = find_label_errors(vectors, random.integers(0, classes, rows), classes, seed=seed)
        assert not found.flagged.any()
