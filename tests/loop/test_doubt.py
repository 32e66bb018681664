"""What a light classifier doubts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.loop.classifier import Targets, committee, fit
from curate.loop.doubt import classifier_disagreement, classifier_doubt
from curate.loop.strategies.probabilities import MEASURES, Measure
from curate.loop.vectors import Axes

Vectors = npt.NDArray[np.float32]
NAMES = ["a", "b", "c"]


def line(n: int = 60) -> Vectors:
    """Points from -1 to 1 on a line, with noise beside it."""
    rng = np.random.default_rng(0)
    return np.stack([np.linspace(-1, 1, n), *rng.normal(0, 0.05, (3, n))], axis=1).astype(np.float32)


def labelled(vectors: Vectors, rows: list[int]) -> Targets:
    """Class a to the left, b to the right; nothing is c."""
    right = vectors[rows, 0] > 0
    return Targets(np.array(rows), np.stack([~right, right, np.zeros(len(rows), bool)], axis=1), several=False)


@pytest.mark.parametrize("measure", MEASURES)
def test_doubt_is_between_the_classes(measure: Measure) -> None:
    vectors = line()
    found = classifier_doubt(vectors, labelled(vectors, [0, 3, 6, 9, 50, 53, 56, 59]), NAMES, measure, seed=0)
    unlabelled = np.setdiff1d(np.arange(60), [0, 3, 6, 9, 50, 53, 56, 59])
    most = unlabelled[np.argsort(-found.values[unlabelled])[:4]]
    assert (np.abs(vectors[most, 0]) < 0.4).all()
    assert "'a'" in found.why(int(most[0]))
    assert "'b'" in found.why(int(most[0]))


def test_a_wrong_label_does_not_vouch_for_itself() -> None:
    vectors = line()
    rows = [*range(0, 20, 2), *range(40, 60, 2)]
    targets = labelled(vectors, rows)
    wrong = rows.index(10)
    there = targets.there.copy()
    there[wrong] = [False, True, False]
    members, folds = committee(vectors, Targets(targets.rows, there, several=False), seed=0)
    assert len(members) == 5
    assert members[folds[wrong]](vectors[[10]])[0].argmax() == 0


def test_a_class_nobody_labelled_is_impossible() -> None:
    vectors = line()
    p = fit(vectors, labelled(vectors, [0, 5, 54, 59]), seed=0)(vectors)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p[:, 2] == 0).all()
    assert p[0].argmax() == 0
    assert p[-1].argmax() == 1


def test_three_classes() -> None:
    vectors = line()
    there = np.zeros((9, 3), dtype=bool)
    rows = np.array([0, 2, 4, 28, 30, 32, 55, 57, 59])
    there[np.arange(9), np.repeat(np.arange(3), 3)] = True
    wide = np.concatenate([vectors, vectors[:, :1] ** 2], axis=1)
    p = fit(wide, Targets(rows, there, several=False), seed=0)(wide)
    assert p[[1, 31, 58]].argmax(axis=1).tolist() == [0, 1, 2]


def test_images_with_several_classes() -> None:
    vectors = line()
    rows = np.arange(0, 60, 4)
    x = vectors[rows, 0]
    there = np.stack([np.ones(len(rows), bool), x > 0, np.zeros(len(rows), bool)], axis=1)
    targets = Targets(rows, there, several=True)
    p = fit(vectors, targets, seed=0)(vectors)
    assert (p[:, 0] == 1).all()
    assert (p[:, 2] < 1e-30).all()
    assert p[0, 1] < 0.5 < p[-1, 1]
    found = classifier_doubt(vectors, targets, NAMES, "entropy", seed=0)
    assert found.values[[29, 30]].min() > found.values[[1, 58]].max()
    assert "'b'" in found.why(29)


def test_folds_disagree_where_labels_decide() -> None:
    vectors = line()
    targets = labelled(vectors, [*range(0, 28, 3), *range(33, 60, 3)])
    found = classifier_disagreement(vectors, targets, NAMES, seed=0)
    assert found.values[[29, 30]].max() > 10 * found.values[[1, 58]].max()
    assert found.why(30).startswith("of 5 folds")


def test_there_must_be_something_to_tell_apart() -> None:
    vectors = line()
    assert not labelled(vectors, []).enough
    assert not labelled(vectors, [0, 1]).enough
    assert labelled(vectors, [0, 59]).enough


def test_principal_axes_keep_distances() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(100, 5)) * [5, 3, 1, 1, 0.1] + 7).astype(np.float32)
    turned = Axes.of(vectors)(vectors)
    assert (turned**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    ratio = np.linalg.norm(vectors[:50] - vectors[50:], axis=1) / np.linalg.norm(turned[:50] - turned[50:], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
