"""The noise model: probabilities to calibrated P(label is wrong)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.mistakes.labels import find_label_errors
from curate.checks.mistakes.noise import SMALLEST_PROBABILITY, judge
from curate.checks.mistakes.noise_fit import fit_noise_model

Array = npt.NDArray[Any]


def simulate(
    n: int = 4000, classes: int = 5, margin: float = 8.0, flips: float = 0.1, temperature: float = 1.0, seed: int = 0
) -> tuple[Array, Array, Array]:
    """A well-informed classifier's probabilities, given and true labels; class 0's errors all go to class 1."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    logits = rng.normal(0, 1.5, (n, classes))
    logits[np.arange(n), true] += margin
    logits *= temperature
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    wrong = rng.random(n) < flips
    labels = np.where(wrong, (true + rng.integers(1, classes, n)) % classes, true)
    labels[wrong & (true == 0)] = 1
    return probabilities.astype(np.float32), labels, true


def calibration_error(p: Array, wrong: Array, bins: int = 10) -> float:
    bucket = np.minimum((p * bins).astype(int), bins - 1)
    return float(
        sum(abs(p[bucket == b].mean() - wrong[bucket == b].mean()) * (bucket == b).mean() for b in set(bucket))
    )


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_calibrated_however_confident_the_classifier(temperature: float) -> None:
    probabilities, labels, true = simulate(margin=5.0, temperature=temperature)
    p_wrong = judge(fit_noise_model(probabilities, labels), probabilities, labels).p_wrong
    wrong = labels != true
    assert calibration_error(p_wrong, wrong) < 0.03
    flagged = p_wrong >= 0.5
    assert 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()) > 0.9


@pytest.mark.parametrize("classes", [2, 5, 130])
def test_judging_is_bayes_rule_for_the_model_as_written(classes: int) -> None:
    probabilities, labels, _ = simulate(n=600, classes=classes, margin=4.0)
    model = fit_noise_model(probabilities, labels)
    found = judge(model, probabilities, labels)
    rows = np.arange(len(labels))
    logits = model.sharpness * np.log(probabilities.astype(np.float64) + SMALLEST_PROBABILITY) + model.bias
    q, look = (np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in (logits, logits / 2))
    by_image = model.image_share * look[rows, labels][:, None] / (1.001 - look)
    given = model.error_rate * (by_image + (1 - model.image_share) * model.confusion[:, labels].T)
    given[rows, labels] = 1 - model.error_rate[labels]
    joint = q * given
    right = joint[rows, labels]
    assert found.p_wrong == pytest.approx(1 - right / joint.sum(axis=1), rel=1e-3, abs=1e-7)
    assert np.abs(found.p_wrong - (1 - right / joint.sum(axis=1))).max() < 5e-6
    joint[rows, labels] = -1
    others = np.sort(joint, axis=1)
    clear = (others[:, -1] > 1.001 * others[:, -2]) if classes > 2 else np.ones(len(rows), dtype=bool)
    assert np.array_equal(found.suggested[clear], joint.argmax(axis=1)[clear])
    assert found.p_given == pytest.approx(q[rows, labels], rel=1e-3)
    assert found.p_suggested == pytest.approx(q[rows, found.suggested], rel=1e-3)


def test_sharpness_undoes_temperature() -> None:
    models = [fit_noise_model(*simulate(margin=4.0, temperature=t)[:2]) for t in (0.5, 1.0)]
    assert models[0].sharpness / models[1].sharpness == pytest.approx(2, rel=0.05)


def test_learns_where_errors_go() -> None:
    model = fit_noise_model(*simulate(n=8000, margin=12.0)[:2])
    assert model.transition.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert model.transition[0, 1] == pytest.approx(0.1, abs=0.02)
    assert model.transition[0, 2:].max() < 0.01
    assert model.error_rate == pytest.approx(np.full(5, 0.1), abs=0.025)


def test_ambiguous_images_are_not_errors() -> None:
    """Two overlapping classes with correct labels: argmax differs from a third of them, but none is wrong."""
    rng = np.random.default_rng(0)
    p = rng.beta(1.5, 1.5, 5000)
    labels = (rng.random(5000) < p).astype(int)
    probabilities = np.stack([1 - p, p], axis=1).astype(np.float32)
    assert (probabilities.argmax(1) != labels).mean() > 0.25
    assert (judge(fit_noise_model(probabilities, labels), probabilities, labels).p_wrong >= 0.5).mean() < 0.01


def test_many_classes_are_fitted_on_the_top_ones() -> None:
    probabilities, labels, true = simulate(n=6000, classes=60, margin=10.0)
    found = judge(fit_noise_model(probabilities, labels), probabilities, labels)
    wrong = labels != true
    assert ((found.p_wrong >= 0.5) == wrong).mean() > 0.985
    assert (found.suggested == true)[wrong].mean() > 0.97
    assert (found.suggested != labels).all()


@pytest.mark.parametrize("flips", [0.3, 0.4])
@pytest.mark.parametrize("classes", [3, 5])
def test_many_errors_do_not_pass_for_ambiguity(classes: int, flips: float) -> None:
    """End to end, from three and five well separated classes."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, classes, 600)
    vectors = (rng.normal(size=(classes, 64))[true] + rng.normal(size=(600, 64))).astype(np.float32)
    wrong = rng.random(600) < flips
    labels = np.where(wrong, (true + rng.integers(1, classes, 600)) % classes, true)
    flagged = find_label_errors(vectors, labels, classes).flagged
    assert 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()) > 0.95


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(2, 20), st.integers(0, 10_000), st.booleans())
def test_any_probabilities_give_probabilities(n: int, classes: int, seed: int, hard: bool) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.1), n).astype(np.float32)
    if hard:
        probabilities = np.eye(classes, dtype=np.float32)[probabilities.argmax(1)]
    labels = rng.integers(0, classes, n)
    found = judge(fit_noise_model(probabilities, labels), probabilities, labels)
    for values in (found.p_wrong, found.p_given, found.p_suggested):
        assert ((values >= 0) & (values <= 1.00001)).all()
    assert (found.suggested != labels).all()
