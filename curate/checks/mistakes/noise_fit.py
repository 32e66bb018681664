"""Fitting the noise model of `curate.checks.mistakes.noise`: maximum a posteriori expectation maximisation.

In turns: sharpness and bias by L-BFGS, error rates held as they are; then the error rates and where errors go, by one step of
expectation maximisation. Which of two starts leads to the better optimum shows on a part of the rows. Only the most probable
classes of a row take part, and blocks of rows that fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csc_array, csr_array
from scipy.special import rel_entr

from curate.checks.mistakes.noise import LEAST_DOUBT, SMALLEST_PROBABILITY, NoiseModel

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]

_TOP_CLASSES: Final = 12  # Classes kept per row: the rest of a row holds next to no mass.
_BLOCK_ROWS: Final = 10_000  # The arrays of so many rows x 12 classes about fit the processor's cache.
_STARTS: Final = ((0.03, 1.0), (0.3, 2.5))  # error rate and sharpness; few errors in doubtful images, many in sure ones
_TRIAL_ITERATIONS: Final = 6
_TRIAL_ROWS: Final = 2500
_ITERATIONS: Final = 40
_TOLERANCE: Final = 1e-4

# Priors; those called LABELS weigh as much as that many labels, so that they matter in small sets only. Chosen over digits,
# rendered glyphs and Gaussians with no, uniform, class-dependent and human-like noise together, not for any one of them.
_EXPECTED_RATE: Final = 0.03
_RATE_LABELS: Final = 20.0  # for the rate of errors over all classes
_CLASS_LABELS: Final = 75.0  # drawing a class's rate to that of all
_CONFUSION_LABELS: Final = 20.0  # drawing where the errors of a class go to what is expected of it
_EXPECTED_IMAGE_SHARE: Final = 0.7
_IMAGE_SHARE_LABELS: Final = 100.0  # drawing the share of image-dependent errors to the expected one
_BIAS_SD: Final = 0.5
_CHANCE_GAIN: Final = 12.0  # nats by which probes explained coin tosses (40 to 300 labels, 2 to 10 classes)
_SHARPNESS_LABELS: Final = 5.0  # towards sharp classes and noisy labels, where the data leave it open
_LOOKALIKE: Final = 0.5  # part of the confusions' prior that follows which classes the classifier confuses
_SHARPNESS_BOUNDS: Final = (0.05, 5.0)


def fit_noise_model(probabilities: Floats, labels: Integers) -> NoiseModel:
    """Fit the noise model to (a sample of) the labels and their out-of-fold probabilities.

    Args:
        probabilities: Float array of shape (n, K), K >= 2, finite and not negative; rows need not sum to 1.
        labels: Given classes, integers in [0, K), shape (n,).
    """
    classes = probabilities.shape[1]
    top = _TopClasses.of(probabilities, labels)
    sample = _Sample.of(top, classes)
    # Which start leads to the better optimum shows on a part of the rows, and the fit goes on from what was found there.
    step = max(1, len(labels) // _TRIAL_ROWS)
    trial = sample if step == 1 else _Sample.of(top.rows(slice(None, None, step)), classes)
    trials = [_maximise(trial, _initial_model(classes, rate, sharp), _TRIAL_ITERATIONS) for rate, sharp in _STARTS]
    best = max(trials, key=lambda model: _log_posterior(trial, model))
    return _trust(sample, _maximise(sample, best, _ITERATIONS))


class _TopClasses(NamedTuple):
    """The m most probable classes of each row (the given one always among them), to fit on.

    One column for each row: with m of a dozen, operations along the rows are several times faster.

    Attributes:
        logs: Log probabilities relative to the row's highest, shape (m, n).
        ids: Their classes, shape (m, n).
        place: Which of the m is the given class, shape (n,).
        labels: Given classes, shape (n,).
    """

    logs: Floats
    ids: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    labels: Integers

    @classmethod
    def of(cls, probabilities: Floats, labels: Integers) -> _TopClasses:
        n, classes = probabilities.shape
        shifted = probabilities + np.float32(SMALLEST_PROBABILITY)
        if classes <= _TOP_CLASSES:
            ids, place = np.repeat(np.arange(classes)[:, None], n, axis=1), labels.astype(np.int64)
        else:
            ids = _most_probable(shifted, labels)
            place = (ids == labels).argmax(axis=0)
        logs = np.log(shifted.take(np.arange(0, n * classes, classes) + ids))
        logs -= logs.max(axis=0)
        return cls(logs, ids, place, labels)

    def rows(self, chosen: slice) -> _TopClasses:
        """Some of the rows."""
        logs, ids = np.ascontiguousarray(self.logs[:, chosen]), np.ascontiguousarray(self.ids[:, chosen])
        return _TopClasses(logs, ids, self.place[chosen], self.labels[chosen])


def _most_probable(values: Floats, labels: Integers) -> npt.NDArray[np.int64]:
    """The given class and the others with the highest values, shape (m, n); values are positive, of shape (n, K).

    Positive floats are in the order of their bits. With a class's number for the last of them one partition of integers
    does it, several times faster than one that carries indices along; it takes what differs in these bits alone for equal.
    """
    n, classes = values.shape
    mask = np.int32((1 << (classes - 1).bit_length()) - 1)
    keys = values.view(np.int32) & ~mask
    keys |= np.arange(classes, dtype=np.int32)
    keys[np.arange(n), labels] |= ~mask & np.iinfo(np.int32).max
    keys.partition(classes - _TOP_CLASSES, axis=1)
    return np.ascontiguousarray((keys[:, classes - _TOP_CLASSES :] & mask).T, dtype=np.int64)


class _Block(NamedTuple):
    """Rows to fit on that fit the processor's cache.

    Attributes:
        top: Their most probable classes.
        at: Where the given classes are in flattened arrays of shape (m, n), shape (n,).
        pairs: Numbers of the pairs (class, given class), shape (m, n).
        sums: Adds up what belongs to a class, shape (K, m * n): a product with it is faster than counting with weights.
        memory: To work in, shape (5, m, n): fetching fresh pages takes longer than the arithmetic.
    """

    top: _TopClasses
    at: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    sums: csr_array
    memory: Floats

    @classmethod
    def of(cls, top: _TopClasses, classes: int) -> _Block:
        n, size = len(top.labels), top.ids.size
        one_each = (np.ones(size), top.ids.ravel(), np.arange(size + 1))
        sums = csc_array(one_each, shape=(classes, size)).tocsr()
        memory = np.empty((5, *top.ids.shape), dtype=np.float32)
        return cls(top, top.place * n + np.arange(n), top.ids * classes + top.labels, sums, memory)

    def per_pair(self, values: Floats, classes: int) -> Doubles:
        """Sum values of shape (m, n) by class and given class; shape (K, K)."""
        counts = np.bincount(self.pairs.ravel(), weights=values.ravel(), minlength=classes**2)
        return np.asarray(counts, dtype=np.float64).reshape(classes, classes)


class _Sample(NamedTuple):
    """Rows to fit on: blocks of them, how many labels of each class there are, shape (K,), and of all."""

    blocks: Sequence[_Block]
    counts: npt.NDArray[np.int64]
    size: int

    @classmethod
    def of(cls, top: _TopClasses, classes: int) -> _Sample:
        n = len(top.labels)
        blocks = [_Block.of(top.rows(slice(start, start + _BLOCK_ROWS)), classes) for start in range(0, n, _BLOCK_ROWS)]
        return cls(blocks, np.bincount(top.labels, minlength=classes), n)


def _initial_model(classes: int, error_rate: float, sharpness: float) -> NoiseModel:
    uniform = _uniform_confusion(classes)
    rate = np.full(classes, error_rate, dtype=np.float32)
    transition = (error_rate * uniform + (1 - error_rate) * np.eye(classes)).astype(np.float32)
    return NoiseModel(sharpness, np.zeros(classes, dtype=np.float32), rate, uniform, _EXPECTED_IMAGE_SHARE, transition)


def _maximise(sample: _Sample, model: NoiseModel, iterations: int) -> NoiseModel:
    """Climb the posterior of the model in turns: sharpness and bias, then the errors."""
    for _ in range(iterations):
        previous = model
        model = _fit_errors(sample, _fit_sharpness(sample, model))
        moved = abs(np.log(model.sharpness / previous.sharpness)) + abs(model.error_rate - previous.error_rate).max()
        if moved < _TOLERANCE:
            break
    return model


def _log_posterior(sample: _Sample, model: NoiseModel) -> float:
    """Log likelihood of the given labels plus the log priors of the model, each 0 where what it expects is met."""
    log_likelihood, mistaken = 0.0, np.zeros_like(model.confusion, dtype=np.float64)
    for block in sample.blocks:
        beliefs = _Beliefs.of(block, model)
        log_likelihood += beliefs.log_evidence()
        mistaken += block.per_pair(beliefs.q / beliefs.total, len(mistaken))
    rates = model.error_rate.astype(np.float64)
    overall = float(rates @ sample.counts) / sample.size
    prior = _SHARPNESS_LABELS * np.log(model.sharpness) - (model.bias.astype(np.float64) ** 2).sum() / (2 * _BIAS_SD**2)
    prior -= _RATE_LABELS * _divergence(_EXPECTED_RATE, overall)
    prior -= _CLASS_LABELS * _divergence(overall, rates).sum()
    prior -= _IMAGE_SHARE_LABELS * _divergence(_EXPECTED_IMAGE_SHARE, model.image_share)
    prior -= _CONFUSION_LABELS * rel_entr(_expected_confusion(mistaken), model.confusion).sum()  # 0 on the diagonal
    return log_likelihood + float(prior)


def _divergence(expected: float, value: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of a share from the expected one, both in (0, 1)."""
    return np.asarray(expected * np.log(expected / value) + (1 - expected) * np.log((1 - expected) / (1 - value)))


def _uniform_confusion(classes: int) -> Floats:
    confusion = np.full((classes, classes), 1 / (classes - 1), dtype=np.float32)
    np.fill_diagonal(confusion, 0)
    return confusion


def _expected_confusion(mistaken: Doubles) -> Doubles:
    """Prior mean of the confusions: in part uniform, in part to the classes that the given one is mistaken for.

    Args:
        mistaken: What the classifier takes labels for: its probabilities summed by class and given class, shape (K, K).
    """
    both = mistaken + mistaken.T
    np.fill_diagonal(both, 0)
    both /= np.maximum(both.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(_LOOKALIKE * both + (1 - _LOOKALIKE) * _uniform_confusion(len(both)))


class _Errors(NamedTuple):
    """The error part of a noise model, as likelihoods of the given labels of a block.

    Attributes:
        right: If the given class is the true one, shape (n,).
        by_class: By a slip of the class, for each true one; 0 for the given one; shape (m, n).
        by_image: Because of the image, before what it looks like; the same.
    """

    right: Floats
    by_class: Floats
    by_image: Floats

    @classmethod
    def of(cls, block: _Block, model: NoiseModel) -> _Errors:
        slips = ((1 - model.image_share) * model.error_rate[:, None] * model.confusion).astype(np.float32)
        by_image = (model.image_share * model.error_rate).astype(np.float32).take(block.top.ids)
        by_image.put(block.at, 0)
        return cls((1 - model.error_rate)[block.top.labels], slips.take(block.pairs), by_image)


class _Beliefs(NamedTuple):
    """q and s of the module of the model, and what they and the errors make of the given labels, in a block's memory.

    Not normalised where a sum is named: what they are to be divided by.

    Attributes:
        q: Probabilities of the true class from the image alone times `total`, shape (m, n).
        total: Their sum, shape (n,).
        look: s times `looks`, shape (m, n).
        looks: Their sum, shape (n,).
        rest: What image-dependent errors are shares of, times `looks`, shape (m, n).
        by_image: P(true class, given class because of the image) times `total`, shape (m, n).
        by_class: The same, by a slip of the class.
        right: The same, where the given class is the true one, shape (n,).
        evidence: The sum of the three over the true classes, shape (n,).
    """

    q: Floats
    total: Floats
    look: Floats
    looks: Floats
    rest: Floats
    by_image: Floats
    by_class: Floats
    right: Floats
    evidence: Floats

    @classmethod
    def of(cls, block: _Block, model: NoiseModel, errors: _Errors | None = None) -> _Beliefs:
        """With the errors of the model, if they are not to be looked up anew."""
        errors = errors or _Errors.of(block, model)
        q, look, rest, by_image, by_class = block.memory
        ones = np.ones(len(q), dtype=np.float32)
        np.multiply(block.top.logs, np.float32(model.sharpness / 2), out=look)
        cv2.exp(look, look)  # cannot overflow or vanish: a column's largest log is 0, and the bias is bounded
        look *= np.exp(model.bias / 2).take(block.top.ids, mode="clip", out=q)
        looks = ones @ look
        np.multiply(look, look, out=q)
        np.subtract(np.float32(1 + LEAST_DOUBT) * looks, look, out=rest)
        np.divide(look.take(block.at), rest, out=by_image)
        by_image *= errors.by_image
        by_image *= q
        np.multiply(q, errors.by_class, out=by_class)
        right = q.take(block.at) * errors.right
        return cls(q, ones @ q, look, looks, rest, by_image, by_class, right, ones @ by_image + ones @ by_class + right)

    def log_evidence(self) -> float:
        """Log likelihood of all given labels."""
        return float(np.log(self.evidence / self.total).sum(dtype=np.float64))


def _slope(block: _Block, model: NoiseModel, errors: _Errors) -> tuple[float, float, Doubles]:
    """The log evidence of a block, and its derivatives by sharpness and by bias, of shape (K,).

    Where errors go depends on these too, so the slope goes through s as well as q: with s held, steps overshoot.
    """
    found = _Beliefs.of(block, model, errors)
    value, ones = found.log_evidence(), np.ones(len(found.q), dtype=np.float32)
    pull = np.divide(found.by_image, found.rest, out=found.rest)
    pull *= found.look
    to_given = ones @ found.by_image
    slope = np.add(found.by_image, found.by_class, out=found.by_image)
    cv2.scaleAdd(pull, 0.5, slope, slope)
    slope *= 1 / found.evidence
    slope -= np.multiply(found.q, 1 / found.total, out=found.q)
    slope -= np.multiply(found.look, (ones @ pull + to_given) / (2 * found.evidence * found.looks), out=found.look)
    at_given = (found.right + to_given / 2) / found.evidence
    by_sharpness = np.einsum("mn,mn->", slope, block.top.logs, dtype=np.float64)
    by_sharpness += np.einsum("n,n->", at_given, block.top.logs.take(block.at), dtype=np.float64)
    by_bias = block.sums @ slope.ravel() + np.bincount(block.top.labels, weights=at_given, minlength=len(model.bias))
    return value, float(by_sharpness), by_bias


def _fit_sharpness(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """The sharpness and bias that make the given labels most likely, error rates held as they are."""
    errors = [_Errors.of(block, model) for block in sample.blocks]

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        tried = replace(model, sharpness=float(parameters[0]), bias=parameters[1:].astype(np.float32))
        value = (parameters[1:] ** 2).sum() / (2 * _BIAS_SD**2) - _SHARPNESS_LABELS * np.log(parameters[0])
        slope = parameters / _BIAS_SD**2
        slope[0] = -_SHARPNESS_LABELS / parameters[0]
        for block, own in zip(sample.blocks, errors, strict=True):
            log_evidence, by_sharpness, by_bias = _slope(block, tried, own)
            value -= log_evidence
            slope[0] -= by_sharpness
            slope[1:] -= by_bias
        return value / sample.size, slope / sample.size

    start = np.r_[model.sharpness, model.bias].astype(np.float64)
    bounds = [_SHARPNESS_BOUNDS] + [(-5.0, 5.0)] * len(model.bias)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 5}).x
    return replace(model, sharpness=float(found[0]), bias=found[1:].astype(np.float32))


def _trust(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """Trust the classifier as far as it explains the given labels better than their frequencies do by themselves.

    Its pooling, sharpness and bias were chosen to explain them, and on a few dozen labels chance alone gains some nats:
    then ambiguity would pass for certainty, and a coin's tosses for errors. This is positive-part shrinkage (James and
    Stein 1961) of the logits; in a set of some hundreds that is not pure noise it changes next to nothing.
    """
    frequency = np.log((sample.counts + 0.5) / (sample.size + 0.5 * len(sample.counts)))
    gain = sum(_Beliefs.of(block, model).log_evidence() for block in sample.blocks) - float(sample.counts @ frequency)
    trust = max(0.0, 1.0 - _CHANCE_GAIN / max(gain, 1e-9))
    centred = frequency - frequency.mean()
    mixed = trust * model.bias + (1 - trust) * np.maximum(centred, -5.0)
    return replace(model, sharpness=trust * model.sharpness, bias=mixed.astype(np.float32))


def _fit_errors(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """One expectation-maximisation step for the error rates and where errors go."""
    classes = len(model.bias)
    right, (mistaken, slips, by_image) = np.zeros(classes), np.zeros((3, classes, classes))
    for block in sample.blocks:
        found = _Beliefs.of(block, model)
        per_label = 1 / found.evidence
        right += np.bincount(block.top.labels, weights=found.right * per_label, minlength=classes)
        parts = (
            (mistaken, found.q, 1 / found.total),
            (slips, found.by_class, per_label),
            (by_image, found.by_image, per_label),
        )
        for sums, values, factor in parts:
            sums += block.per_pair(np.multiply(values, factor, out=values), classes)
    pairs = slips + by_image
    errors = pairs.sum(axis=1)

    overall = (errors.sum() + _RATE_LABELS * _EXPECTED_RATE) / (sample.size + _RATE_LABELS)
    rate = (errors + _CLASS_LABELS * overall) / (errors + right + _CLASS_LABELS)
    confusion = slips + _CONFUSION_LABELS * _expected_confusion(mistaken)
    confusion /= confusion.sum(axis=1, keepdims=True)
    share = (by_image.sum() + _IMAGE_SHARE_LABELS * _EXPECTED_IMAGE_SHARE) / (errors.sum() + _IMAGE_SHARE_LABELS)
    transition = pairs + confusion
    transition *= (rate / transition.sum(axis=1))[:, None]
    transition[np.diag_indices(classes)] = 1 - rate
    return replace(
        model,
        error_rate=rate.astype(np.float32),
        confusion=confusion.astype(np.float32),
        image_share=float(share),
        transition=transition.astype(np.float32),
    )
