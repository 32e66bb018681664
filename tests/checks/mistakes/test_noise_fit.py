"""Fitting the noise model: what makes it fast changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.mistakes import noise_fit as module
from curate.checks.mistakes.noise import LEAST_DOUBT, SMALLEST_PROBABILITY, NoiseModel, judge
from curate.checks.mistakes.noise_fit import fit_noise_model

Array = npt.NDArray[Any]


def simulate(n: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Probabilities of a classifier that is often right, and labels of which a tenth are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, n)
    logits = rng.normal(0, 1.5, (n, classes))
    logits[np.arange(n), true] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), np.where(rng.random(n) < 0.1, rng.integers(0, classes, n), true)


def some_model(classes: int, seed: int = 0) -> NoiseModel:
    rng = np.random.default_rng(seed)
    confusion = rng.dirichlet(np.ones(classes), classes) * (1 - np.eye(classes))
    confusion /= confusion.sum(axis=1, keepdims=True)
    rate = rng.uniform(0.02, 0.2, classes).astype(np.float32)
    bias = rng.normal(0, 0.3, classes).astype(np.float32)
    return NoiseModel(1.3, bias, rate, confusion.astype(np.float32), 0.6, confusion.astype(np.float32))


def log_evidence(model: NoiseModel, probabilities: Array, labels: Array) -> float:
    """As the module of the model writes it down; of no more classes than are kept."""
    n = len(labels)
    logs = np.log(probabilities.astype(np.float64) + SMALLEST_PROBABILITY)
    logits = model.sharpness * logs + model.bias.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    q, look = (np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in (logits, logits / 2))
    by_image = model.image_share * look[np.arange(n), labels][:, None] / (1 + LEAST_DOUBT - look)
    likelihood = model.error_rate * (by_image + (1 - model.image_share) * model.confusion[:, labels].T)
    likelihood[np.arange(n), labels] = 1 - model.error_rate[labels]
    return float(np.log((q * likelihood).sum(axis=1)).sum())


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_the_slope_is_that_of_the_evidence_as_written(classes: int) -> None:
    probabilities, labels = simulate(300, classes)
    model = some_model(classes)
    block = module._Block.of(module._TopClasses.of(probabilities, labels), classes)
    value, by_sharpness, by_bias = module._slope(block, model, module._Errors.of(block, model))
    assert value == pytest.approx(log_evidence(model, probabilities, labels), rel=1e-5)

    def change(up: NoiseModel, down: NoiseModel) -> float:
        return log_evidence(up, probabilities, labels) - log_evidence(down, probabilities, labels)

    up, down = (replace(model, sharpness=model.sharpness + step) for step in (1e-4, -1e-4))
    assert by_sharpness == pytest.approx(change(up, down) / 2e-4, rel=1e-3, abs=1e-2)
    wide = model.bias.astype(np.float64)
    for k in range(classes):
        up, down = (replace(model, bias=wide + step * np.eye(classes)[k]) for step in (1e-4, -1e-4))
        assert by_bias[k] == pytest.approx(change(up, down) / 2e-4, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("classes", [5, 60])
def test_the_most_probable_classes_and_the_given_one_are_kept(classes: int) -> None:
    probabilities, labels = simulate(400, classes)
    labels[::7] = probabilities[::7].argmin(axis=1)
    top = module._TopClasses.of(probabilities, labels)
    rows = np.arange(len(labels))
    assert np.array_equal(top.ids[top.place, rows], labels)
    raised = probabilities.copy()
    raised[rows, labels] = 2
    expected = np.sort(np.argsort(-raised, axis=1)[:, : module._TOP_CLASSES], axis=1)
    assert np.array_equal(np.sort(top.ids.T, axis=1), expected)
    logs = np.log(probabilities + np.float32(SMALLEST_PROBABILITY))
    np.testing.assert_array_equal(top.logs, (np.take_along_axis(logs, top.ids.T, axis=1) - logs.max(axis=1)[:, None]).T)


def test_blocks_do_not_show_in_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = simulate(1500, 20)
    whole = judge(fit_noise_model(probabilities, labels), probabilities, labels)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 400)
    parts = judge(fit_noise_model(probabilities, labels), probabilities, labels)
    np.testing.assert_allclose(parts.p_wrong, whole.p_wrong, atol=0.02)
    assert np.array_equal(parts.p_wrong >= 0.5, whole.p_wrong >= 0.5)


def test_where_a_classifier_is_certain_the_slopes_are_numbers() -> None:
    labels = np.arange(40) % 20
    probabilities = np.eye(20, dtype=np.float32)[(labels + (np.arange(40) % 9 == 0)) % 20]
    model = replace(some_model(20), sharpness=module._SHARPNESS_BOUNDS[1])
    block = module._Block.of(module._TopClasses.of(probabilities, labels), 20)
    value, by_sharpness, by_bias = module._slope(block, model, module._Errors.of(block, model))
    assert np.isfinite([value, by_sharpness, *by_bias]).all()
