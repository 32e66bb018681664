"""From class probabilities to a calibrated probability that the given label is wrong.

An ambiguous image and a wrong label look alike to a classifier: both give the given label a low probability. What tells
them apart is how often, over the whole set, labels that the classifier finds unlikely were given to images it is sure of.
That is a model of the label noise, and it is fitted to the data (`curate.checks.mistakes.noise_fit`):

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

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import sger

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]

SMALLEST_PROBABILITY: Final = 1e-7
"""Added to every probability: zeros become this, for no classifier knows better."""

LEAST_DOUBT: Final = 1e-3
"""Added to 1 - s(true class | x), the part that image-dependent errors are shares of."""


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


def judge(model: NoiseModel, probabilities: Floats, labels: Integers) -> Judgement:
    """Apply Bayes' rule to each label.

    Args:
        model: Fitted on the same classes.
        probabilities: Float array of shape (n, K), finite and not negative; rows need not sum to 1.
        labels: Given classes, shape (n,).
    """
    return Judge.of(model, len(labels))(probabilities, labels)


@dataclass(frozen=True)
class Judge:
    """`judge` for many labels, in blocks of rows that fit the processor's cache.

    What it needs of the model, and its memory, are made once: fetching fresh pages takes longer than the arithmetic. Bias is in
    the tables, so that no pass over a block adds it.

    Attributes:
        half_sharpness: Of the logits of s.
        bias: What the bias multiplies s by, float32 of shape (K,).
        right: P(given = true | true), times the square of that, as q is multiplied by; shape (K,).
        by_class: P(given by a slip of the class | true), times the same, shape (K, K), rows [given].
        by_image: P(error because of the image | true), times the bias, shape (K,).
        starts: Places of rows in a flattened block, shape (rows,).
        memory: To work in, shape (3, rows, K).
    """

    half_sharpness: np.float32
    bias: Floats
    right: Floats
    by_class: Floats
    by_image: Floats
    starts: npt.NDArray[np.int64]
    memory: Floats

    @classmethod
    def of(cls, model: NoiseModel, rows: int) -> Judge:
        """For blocks of up to so many rows."""
        classes = len(model.bias)
        bias = np.exp(model.bias / 2)
        return cls(
            np.float32(model.sharpness / 2),
            bias,
            (1 - model.error_rate) * bias**2,
            np.ascontiguousarray((model.confusion * ((1 - model.image_share) * model.error_rate * bias**2)[:, None]).T),
            np.float32(model.image_share) * model.error_rate * bias,
            np.arange(0, rows * classes, classes),
            np.empty((3, rows, classes), dtype=np.float32),
        )

    def __call__(self, probabilities: Floats, labels: Integers) -> Judgement:
        """Judge a block; arguments as for `judge`."""
        n, classes = probabilities.shape
        if classes == 1:
            ones = np.ones(n, dtype=np.float32)
            return Judgement(np.zeros(n), np.zeros(n, dtype=np.int32), ones, ones)
        # Written for speed: operations in place, row sums as matrix products, single numbers by their place in memory; logarithm
        # and exponential by OpenCV, and numbers of rows times numbers of columns by BLAS, each in half the time of NumPy.
        look, q, joint = self.memory[:, :n]
        starts = self.starts[:n]
        given = starts + labels
        np.add(probabilities, np.float32(SMALLEST_PROBABILITY), out=look)
        cv2.log(look, look)
        look *= self.half_sharpness
        cv2.exp(look, look)  # s over the bias, times the sum of its row, which no ratio depends on
        np.multiply(look, look, out=q)
        looks, of_given = look @ self.bias, look.take(given) * self.bias[labels]
        # Less what image-dependent errors are shares of; a likelihood is by_class - by_image * of_given / rest, times q.
        rest = sger(-1 - LEAST_DOUBT, 1 / self.bias, looks, a=look.T, overwrite_a=True).T
        self.by_class.take(labels, axis=0, mode="clip", out=joint)
        joint *= rest
        joint = sger(-1, self.by_image, of_given, a=joint.T, overwrite_a=True).T
        joint /= rest
        joint *= q
        joint.put(given, 0)
        right, wrong = q.take(given) * self.right[labels], joint @ np.ones(classes, dtype=np.float32)
        joint.put(given, -1)  # below the others even where all of them vanish
        suggested = joint.argmax(axis=1)
        squares = self.bias**2
        total = q @ squares
        return Judgement(
            wrong / (wrong + right.astype(np.float64)),
            suggested.astype(np.int32),
            q.take(given) * squares[labels] / total,
            q.take(starts + suggested) * squares[suggested] / total,
        )
