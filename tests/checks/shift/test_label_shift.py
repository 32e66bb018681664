"""Label shift apart from covariate shift."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.shift.label_shift import estimate_classes, label_shift_test, without_classes
from curate.checks.shift.two_sample import two_sample_test

NAMES = ("bolt", "nut", "washer")


def one_each(labels: np.ndarray) -> np.ndarray:
    return np.asarray(np.eye(3)[labels])


def test_a_changed_mixture_of_classes_is_seen() -> None:
    rng = np.random.default_rng(0)
    incoming = np.arange(300) >= 150
    same, other = ([0.5, 0.3, 0.2], [0.25, 0.3, 0.45])
    labels = np.where(incoming, rng.choice(3, 300, p=other), rng.choice(3, 300, p=same))
    found = label_shift_test(one_each(labels), NAMES, incoming, np.arange(300), permutations=499)
    assert found is not None
    assert found.p_value <= 0.01
    changed = {each.label: each for each in found.classes}
    assert changed["washer"].p_value <= 0.05 < changed["nut"].p_value
    assert changed["washer"].incoming > 0.3 > changed["washer"].reference


def test_false_alarms_of_the_mixture() -> None:
    rng = np.random.default_rng(1)
    alarms = []
    for seed in range(100):
        counts = rng.poisson(1.0, (80, 3)).astype(float)
        found = label_shift_test(counts, NAMES, np.arange(80) < 30, np.arange(80), permutations=99, seed=seed)
        assert found is not None
        alarms.append(found.p_value <= 0.05)
    assert np.mean(alarms) <= 0.12


def test_without_labels_on_a_side_there_is_no_test() -> None:
    counts = one_each(np.zeros(40, dtype=int)) * (np.arange(40) < 20)[:, None]
    assert label_shift_test(counts, NAMES, np.arange(40) >= 20, np.arange(40)) is None


def test_the_mixture_is_estimated_from_what_a_model_confuses() -> None:
    rng = np.random.default_rng(2)
    confusion = np.array([[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.0, 0.3, 0.7]])
    true = rng.choice(3, 4000, p=[0.6, 0.3, 0.1])
    new = rng.choice(3, 4000, p=[0.1, 0.3, 0.6])
    seen, seen_new = (np.array([rng.choice(3, p=confusion[k]) for k in labels]) for labels in (true, new))
    estimated = estimate_classes(one_each(true), one_each(seen), one_each(seen_new))
    naive = np.bincount(seen_new) / 4000
    assert estimated.sum() == pytest.approx(1)
    np.testing.assert_allclose(estimated, [0.1, 0.3, 0.6], atol=0.05)
    assert np.abs(naive - [0.1, 0.3, 0.6]).max() > 0.1


def test_a_shift_of_classes_alone_is_no_shift_of_looks() -> None:
    rng = np.random.default_rng(3)
    incoming = np.arange(400) >= 200
    labels = np.where(incoming, rng.choice(3, 400, p=[0.2, 0.2, 0.6]), rng.choice(3, 400, p=[0.6, 0.2, 0.2]))
    looks = rng.normal(size=(400, 4)) + 2 * labels[:, None]
    names, views = tuple("abcd"), ("light",) * 4
    results = []
    for values in (looks, without_classes(looks, one_each(labels))):
        test = two_sample_test(values, names, views, np.zeros((400, 0)), incoming, np.arange(400), permutations=199)
        assert test is not None
        results.append(test.p_value)
    assert results[0] <= 0.01
    assert results[1] > 0.05
