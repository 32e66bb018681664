"""From class probabilities to a calibrated probability that the given label is wrong.

An ambiguous image and a wrong label look alike to a classifier: both give the given label a low probability. What tells
them apart is how often, over the whole set, labels that the classifier finds unlikely were given to images it is sure of.
That is a model of the label noise, and it is fitted to the data by maximum a posteriori expectation maximisation:

    true label    y ~ q(. | x),  q = softmax(sharpness * log p(. | x) + bias)
    given label   g = y with probability 1 - e[y], else another class, drawn from
                  (1 - a) * C[y, .]  +  a * s(. | x),   s = softmax(sharpness / 2 * log p + bias / 2) without y

p are out-of-fold probabilities, so they have not seen the label they are judged against, and over- or under-confidence is
learned as the sharpness (where the data leave it open, a weak prior takes the sharper classes and the noisier labels). C
holds slips that go with the class (two keys side by side); s those that go with the image (it really looks a bit like the
other class), which is where most human mistakes are. Class-wise rates and confusions are shrunk to shared ones, the more
the fewer labels a class has. The answer is then Bayes' rule, P(y != g | x, g).

The class-conditional part follows Dawid and Skene (1979) and Patrini et al. (2017); the instance-dependent part follows the
observation of Wei et al. (2022, CIFAR-N) that human label noise depends on the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import sger
from scipy.optimize import minimize
from scipy.special import rel_entr

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]

SMALLEST_PROBABILITY: Final = 1e-7
"""Added to every probability: zeros become this, for no classifier knows better."""

_TOP_CLASSES: Final = 12  # Classes kept per row while fitting: the rest of a row holds next to no mass.
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
_LEAST_DOUBT: Final = 1e-3  # added to 1 - s(true class | x), the part that image-dependent errors are shares of


@dataclass(frozen=True)
class NoiseModel:
    """How given labels come about, for K classes.

    Attributes:
        sharpness: Factor on log probabilities; below 1 the classifier was overconfident.
        bias: Added to them; float32 of shape (K,).
        error_rate: P(given != true | true), shape (K,).
        confusion: Where errors that do not depend on the image go, shape (K, K), rows [true] sum to 1, diagonal 0.
        image_share: Share of errors that follow what the image looks like, in [0, 1].
        transition: P(given | true) averaged over images, shape (K, K), rows [true] sum to 1.
    """

    sharpness: float
    bias: Floats
    error_rate: Floats
    confusion: Floats
    image_share: float
    transition: Floats


@dataclass(frozen=True)
class Judgement:
    """What a noise model says of n labels.

    Attributes:
        p_wrong: P(the given label is wrong | image, given label), float64 of shape (n,): the surest are told apart.
        suggested: Most probable true class other than the given one, int32 of shape (n,); the given one if K = 1.
        p_given: Calibrated probability of the given class from the image alone, shape (n,).
        p_suggested: The same of the suggested class, shape (n,).
    """

    p_wrong: npt.NDArray[np.float64]
    suggested: npt.NDArray[np.int32]
    p_given: Floats
    p_suggested: Floats


def fit_noise_model(probabilities: Floats, labels: Integers) -> NoiseModel:
    """Fit the noise model to (a sample of) the labels and their out-of-fold probabilities.

    Args:
        probabilities: Float array of shape (n, K), K >= 2, finite and not negative; rows need not sum to 1.
        labels: Given classes, integers in [0, K), shape (n,).
    """
    sample = _Sample.of(probabilities, labels)
    classes = probabilities.shape[1]
    # Which start leads to the better optimum shows on a part of the rows, and the fit goes on from what was found there.
    step = max(1, len(labels) // _TRIAL_ROWS)
    trial = sample if step == 1 else _Sample.of(probabilities[::step], labels[::step])
    trials = [_maximise(trial, _initial_model(classes, rate, sharp), _TRIAL_ITERATIONS) for rate, sharp in _STARTS]
    best = max(trials, key=lambda model: _log_posterior(trial, model))
    return _trust(sample, _maximise(sample, best, _ITERATIONS))


def judge(model: NoiseModel, probabilities: Floats, labels: Integers) -> Judgement:
    """Apply Bayes' rule to each label.

    Args:
        model: Fitted on the same classes.
        probabilities: Float array of shape (n, K), as for `fit_noise_model`.
        labels: Given classes, shape (n,).
    """
    return Judge.of(model, len(labels))(probabilities, labels)


@dataclass(frozen=True)
class Judge:
    """`judge` for many labels, in blocks of rows that fit the processor's cache.

    What it needs of the model, and its memory, are made once: fetching fresh pages takes longer than the arithmetic.
    """

    model: NoiseModel
    errors: _ErrorTables
    bias: Floats
    memory: Floats

    @classmethod
    def of(cls, model: NoiseModel, rows: int) -> Judge:
        """For blocks of up to so many rows."""
        classes = len(model.bias)
        bias = np.tile((model.bias / 2).astype(np.float32), (rows, 1))
        return cls(model, _ErrorTables.of(model), bias, np.empty((4, rows, classes), dtype=np.float32))

    def __call__(self, probabilities: Floats, labels: Integers) -> Judgement:
        """Judge a block; arguments as for `judge`."""
        n, classes = probabilities.shape
        if classes == 1:
            ones = np.ones(n, dtype=np.float32)
            return Judgement(np.zeros(n), np.zeros(n, dtype=np.int32), ones, ones)
        # Written for speed: operations in place, row sums as matrix products, single numbers by their place in memory; logarithm
        # and exponential by OpenCV, and numbers of rows times numbers of columns by BLAS, each in half the time of NumPy.
        look, q, likelihood, class_part = self.memory[:, :n]
        ones, given = np.ones(classes, dtype=np.float32), np.arange(0, n * classes, classes) + labels
        np.add(probabilities, np.float32(SMALLEST_PROBABILITY), out=look)
        cv2.log(look, look)
        cv2.scaleAdd(look, self.model.sharpness / 2, self.bias[:n], look)
        cv2.exp(look, look)  # s times the sum of its row, which no ratio depends on
        np.multiply(look, look, out=q)
        of_given, rest = look.take(given), sger(-1 - _LEAST_DOUBT, ones, look @ ones, a=look.T, overwrite_a=True).T
        likelihood.fill(0)
        likelihood = sger(-1, self.errors.by_image, of_given, a=likelihood.T, overwrite_a=True).T
        likelihood /= rest
        likelihood += self.errors.by_class.take(labels, axis=0, mode="clip", out=class_part)
        likelihood.put(given, self.errors.right[labels])
        joint = np.multiply(likelihood, q, out=likelihood)
        right = joint.take(given)
        joint.put(given, -1)  # below the others even where all of them vanish
        suggested = joint.argmax(axis=1)
        joint.put(given, 0)
        wrong, total = joint @ ones, q @ ones
        other = given - labels + suggested
        return Judgement(
            wrong / (wrong + right.astype(np.float64)),
            suggested.astype(np.int32),
            q.take(given) / total,
            q.take(other) / total,
        )


@dataclass(frozen=True)
class _Sample:
    """The m most probable classes of each row (the given one always among them), to fit on.

    One column for each row: with m of a dozen, operations along the rows are several times faster.

    Attributes:
        logs: Log probabilities relative to the row's highest, shape (m, n).
        ids: Their classes, shape (m, n).
        at: Place of the given class in the flattened arrays, shape (n,).
        labels: Given classes, shape (n,).
    """

    logs: Floats
    ids: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    labels: Integers

    @classmethod
    def of(cls, probabilities: Floats, labels: Integers) -> _Sample:
        n, classes = probabilities.shape
        logs = np.log(probabilities + np.float32(SMALLEST_PROBABILITY))
        logs -= logs.max(axis=1, keepdims=True)
        if classes <= _TOP_CLASSES:
            ids = np.repeat(np.arange(classes)[:, None], n, axis=1)
            return cls(np.ascontiguousarray(logs.T), ids, labels * n + np.arange(n), labels)
        raised = -logs
        raised[np.arange(n), labels] = -np.inf
        chosen = np.argpartition(raised, _TOP_CLASSES - 1, axis=1)[:, :_TOP_CLASSES]
        ids = np.ascontiguousarray(chosen.T)
        at = (ids == labels).argmax(axis=0) * n + np.arange(n)
        return cls(np.ascontiguousarray(np.take_along_axis(logs, chosen, axis=1).T), ids, at, labels)

    def of_class(self, values: Floats) -> Floats:
        """A value of each class, shape (classes,), where that class is; shape (m, n)."""
        return values.take(self.ids, mode="clip")

    def per_class(self, values: Floats, classes: int) -> npt.NDArray[np.float64]:
        """Sum values of shape (m, n) by class; shape (classes,)."""
        return _weighted_counts(self.ids, values, classes)

    def per_pair(self, values: Floats, classes: int) -> npt.NDArray[np.float64]:
        """Sum values of shape (m, n) by class and given class; shape (classes, classes)."""
        counts = _weighted_counts(self.ids * classes + self.labels, values, classes * classes)
        return counts.reshape(classes, classes)


def _weighted_counts(values: Integers, weights: Floats, length: int) -> npt.NDArray[np.float64]:
    return np.asarray(np.bincount(values.ravel(), weights=weights.ravel(), minlength=length), dtype=np.float64)


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
    q, _, likelihood, _ = _beliefs(sample, model)
    rates = model.error_rate.astype(np.float64)
    overall = float(rates[sample.labels].mean())
    prior = _SHARPNESS_LABELS * np.log(model.sharpness) - (model.bias.astype(np.float64) ** 2).sum() / (2 * _BIAS_SD**2)
    prior -= _RATE_LABELS * _divergence(_EXPECTED_RATE, overall)
    prior -= _CLASS_LABELS * _divergence(overall, rates).sum()
    prior -= _IMAGE_SHARE_LABELS * _divergence(_EXPECTED_IMAGE_SHARE, model.image_share)
    expected = _expected_confusion(sample, q, len(rates))
    prior -= _CONFUSION_LABELS * rel_entr(expected, model.confusion).sum()  # 0 on the diagonal, where both are
    return float(np.log((q * likelihood).sum(axis=0)).sum(dtype=np.float64) + prior)


def _divergence(expected: float, value: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of a share from the expected one, both in (0, 1)."""
    return np.asarray(expected * np.log(expected / value) + (1 - expected) * np.log((1 - expected) / (1 - value)))


def _uniform_confusion(classes: int) -> Floats:
    confusion = np.full((classes, classes), 1 / (classes - 1), dtype=np.float32)
    np.fill_diagonal(confusion, 0)
    return confusion


def _expected_confusion(sample: _Sample, q: Floats, classes: int) -> npt.NDArray[np.float64]:
    """Prior mean of the confusions: in part uniform, in part to the classes that the given one is mistaken for."""
    mistaken = sample.per_pair(q, classes)
    mistaken += mistaken.T
    np.fill_diagonal(mistaken, 0)
    mistaken /= np.maximum(mistaken.sum(axis=1, keepdims=True), 1e-12)
    uniform = _uniform_confusion(classes)
    return np.asarray(_LOOKALIKE * mistaken + (1 - _LOOKALIKE) * uniform)


def _sharpened(logs: Floats, sharpness: float, bias: Floats) -> Floats:
    """softmax(sharpness * logs + bias) along columns; logs as in `_Sample`, bias of the same shape."""
    q = logs * np.float32(sharpness)
    q += bias
    np.exp(q, out=q)  # cannot overflow or vanish: a column's largest log is 0, and the bias is bounded
    q /= q.sum(axis=0)
    return q


@dataclass(frozen=True)
class _ErrorTables:
    """The error part of a noise model, as likelihoods of the given label.

    Attributes:
        right: P(given = true | true), shape (K,).
        by_class: P(given by a slip of the class | true), shape (K, K), rows [given].
        by_image: P(error because of the image | true), shape (K,).
    """

    right: Floats
    by_class: Floats
    by_image: Floats

    @classmethod
    def of(cls, model: NoiseModel) -> _ErrorTables:
        by_class = ((1 - model.image_share) * model.error_rate[:, None] * model.confusion).T
        return cls(
            1 - model.error_rate,
            np.ascontiguousarray(by_class, dtype=np.float32),
            (model.image_share * model.error_rate).astype(np.float32),
        )


@dataclass(frozen=True)
class _SampleErrors:
    """The same for the classes of a sample.

    Attributes:
        right: For the given class of each row, shape (n,).
        by_class: For the given class by each true one, shape (m, n).
        by_image: Shape (m, n).
    """

    right: Floats
    by_class: Floats
    by_image: Floats

    @classmethod
    def of(cls, sample: _Sample, model: NoiseModel) -> _SampleErrors:
        tables = _ErrorTables.of(model)
        pairs = sample.labels * len(model.bias) + sample.ids
        by_class = tables.by_class.take(pairs, mode="clip")
        return cls(tables.right[sample.labels], by_class, sample.of_class(tables.by_image))


def _beliefs(
    sample: _Sample, model: NoiseModel, errors: _SampleErrors | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
    """q and s of the module's description, the likelihoods of the labels and the part of them due to the class alone.

    Each of shape (m, n). `errors` are the model's, if they are not to be looked up anew.
    """
    errors = errors or _SampleErrors.of(sample, model)
    bias = sample.of_class(model.bias)
    q = _sharpened(sample.logs, model.sharpness, bias)
    look = _sharpened(sample.logs, model.sharpness / 2, bias * np.float32(0.5))
    likelihood = look.take(sample.at) / (np.float32(1 + _LEAST_DOUBT) - look)
    likelihood *= errors.by_image
    likelihood += errors.by_class
    likelihood.put(sample.at, errors.right)
    return q, look, likelihood, errors.by_class


def _fit_sharpness(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """The sharpness and bias that make the given labels most likely, error rates held as they are.

    Where errors go depends on them too, so the gradient goes through s as well as q: with s held, steps overshoot.
    """
    n, classes = len(sample.labels), len(model.bias)
    errors = _SampleErrors.of(sample, model)

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        tried = replace(model, sharpness=float(parameters[0]), bias=parameters[1:].astype(np.float32))
        q, look, likelihood, class_part = _beliefs(sample, tried, errors)
        joint = q * likelihood
        evidence = joint.sum(axis=0)
        joint /= evidence
        slope = joint - q  # of the log evidence with respect to the logits; by way of q
        by_image = q * (likelihood - class_part) / evidence
        by_image.put(sample.at, 0)
        pull = by_image * look / (np.float32(1 + _LEAST_DOUBT) - look)
        pull.put(sample.at, pull.take(sample.at) + by_image.sum(axis=0))
        slope += (pull - look * pull.sum(axis=0)) / 2  # by way of s
        value = -np.log(evidence).sum(dtype=np.float64) + (parameters[1:] ** 2).sum() / (2 * _BIAS_SD**2)
        value -= _SHARPNESS_LABELS * np.log(parameters[0])
        by_sharpness = -np.einsum("mn,mn->", slope, sample.logs, dtype=np.float64) - _SHARPNESS_LABELS / parameters[0]
        by_bias = parameters[1:] / _BIAS_SD**2 - sample.per_class(slope, classes)
        return value / n, np.r_[by_sharpness, by_bias] / n

    start = np.r_[model.sharpness, model.bias].astype(np.float64)
    bounds = [_SHARPNESS_BOUNDS] + [(-5.0, 5.0)] * classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 5}).x
    return replace(model, sharpness=float(found[0]), bias=found[1:].astype(np.float32))


def _trust(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """Trust the classifier as far as it explains the given labels better than their frequencies do by themselves.

    Its pooling, sharpness and bias were chosen to explain them, and on a few dozen labels chance alone gains some nats:
    then ambiguity would pass for certainty, and a coin's tosses for errors. This is positive-part shrinkage (James and
    Stein 1961) of the logits; in a set of some hundreds that is not pure noise it changes next to nothing.
    """
    n, classes = len(sample.labels), len(model.bias)
    q, _, likelihood, _ = _beliefs(sample, model)
    frequency = np.log((np.bincount(sample.labels, minlength=classes) + 0.5) / (n + 0.5 * classes))
    gain = float(np.log((q * likelihood).sum(axis=0)).sum() - frequency[sample.labels].sum())
    trust = max(0.0, 1.0 - _CHANCE_GAIN / max(gain, 1e-9))
    centred = frequency - frequency.mean()
    mixed = trust * model.bias + (1 - trust) * np.maximum(centred, -5.0)
    return replace(model, sharpness=trust * model.sharpness, bias=mixed.astype(np.float32))


def _fit_errors(sample: _Sample, model: NoiseModel) -> NoiseModel:
    """One expectation-maximisation step for the error rates and where errors go."""
    n, classes = len(sample.labels), len(model.bias)
    q, _, likelihood, class_part = _beliefs(sample, model)
    posterior = q * likelihood
    posterior /= posterior.sum(axis=0)
    of_class = sample.per_class(posterior, classes)
    expected = _expected_confusion(sample, q, classes)
    posterior.put(sample.at, 0)  # from here on: errors only
    errors = sample.per_class(posterior, classes)
    pairs = sample.per_pair(posterior, classes)
    posterior *= class_part / np.maximum(likelihood, np.float32(1e-30))
    class_pairs = sample.per_pair(posterior, classes)

    overall = (errors.sum() + _RATE_LABELS * _EXPECTED_RATE) / (n + _RATE_LABELS)
    rate = (errors + _CLASS_LABELS * overall) / (of_class + _CLASS_LABELS)
    confusion = class_pairs + _CONFUSION_LABELS * expected
    confusion /= confusion.sum(axis=1, keepdims=True)
    of_image = errors.sum() - class_pairs.sum()
    share = (of_image + _IMAGE_SHARE_LABELS * _EXPECTED_IMAGE_SHARE) / (errors.sum() + _IMAGE_SHARE_LABELS)
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
