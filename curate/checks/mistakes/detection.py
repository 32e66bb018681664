"""Label errors that a detector's predictions reveal: missing, spurious, mislocated and mislabeled boxes, on one scale.

The four kinds are those of ObjectLab (Tkachenko et al. 2023, "ObjectLab: Automated diagnosis of mislabeled images in object
detection data") and spurious boxes. In place of its hand-made scores, every score here is the probability that the label is
wrong rather than the detector, estimated on the very data: how often detections of this confidence and class are confirmed, how
often objects of this class and size are found, how well boxes usually fit and which classes the detector confuses, each with
the share of wrong labels as a part of the model (`curate.checks.mistakes.slip`, `curate.checks.mistakes.box_fit`).

One object gives one suspect: ground truth and detections are assigned one to one first, whatever their classes, so that a moved
box is not a missing and a spurious one. Only boxes that are left over can be missing or spurious.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray, check_sizes
from curate.checks.mistakes.box_fit import BoxFit, fit_boxes
from curate.checks.mistakes.ensemble import fuse
from curate.checks.mistakes.matching import Pairs, assign, overlapping_pairs
from curate.checks.mistakes.scene import SAME_PLACE, TOUCH, Scene, bounded_logit, pair_weight
from curate.checks.mistakes.slip import STRENGTH, Slip, fit_slip
from curate.checks.mistakes.tables import Suspects, merge, suspects

_NULL_ROWS: Final = 50_000


def detection_errors(
    truth: Boxes,
    layers: Sequence[Boxes],
    *,
    sizes: FloatArray | None = None,
    classes: IntArray | None = None,
    min_score: float = 0.01,
) -> Suspects:
    """Suspected label errors, given the predictions of one detector or of several.

    Args:
        truth: n ground-truth boxes; `covered` says which images were labelled. Crowd regions are never suspects.
        layers: Predictions, each layer with scores; `covered` says which images its detector has seen. Images that no layer has
            seen are not looked at.
        sizes: float64 array of shape (m, 2), width and height of the images; makes sizes of objects relative. None if unknown.
        classes: int64 array, the labels that the ground truth may use; by default those it does. A prediction of any other
            class says that there is something, but is never missing and never a better label.
        min_score: Suspects below are left out.

    Returns:
        At most one suspect per object. Evidence, where it applies: `confidence` of the detection; `precision`, how often such
        detections are right; `hit_rate`, how often such objects are found; `iou` and `usual_iou`; `class_share`, how much of
        the detector's evidence about the class speaks for the suggested one; `label_error_rate`, the share of labels that
        seem to be wrong in this way.

    Raises:
        InputError: A layer has no scores, or scores outside of [0, 1], or an image has no row in `sizes`.
    """
    if sizes is not None:
        check_sizes(sizes, truth, *layers)
    detections = fuse(layers)
    known = np.union1d(truth.label, [] if classes is None else classes).astype(np.int64)
    scene = Scene.of(truth, detections, layers, known, sizes)
    chance = _chance(scene)
    missing, precision = _missing(scene)
    swapped, classes_fit = _swapped(scene)
    moved, boxes_fit, usual_iou = _moved(scene, chance)
    # Whether an object was overlooked by the detector or never there, predictions hardly tell; but annotators who are careless
    # in one way are in others.
    rate = float(np.mean([precision.slip, classes_fit.slip, boxes_fit.share]))
    hit, ease = _fit_hits(scene, chance, rate)
    alone = _unmatched_truth(scene, hit, ease, _free(scene))
    pairs = _Verdicts(chance, swapped, moved, usual_iou, (classes_fit.slip, boxes_fit.share, hit.slip))
    matched = _matched(scene, pairs, precision, hit, ease, min_score)
    return merge([part.take(part.score >= min_score) for part in (missing, alone, matched)])


@dataclass(frozen=True)
class _Verdicts:
    """What is thought of every pair: probabilities, and the rates of wrong classes, wrong places and spurious boxes."""

    chance: FloatArray
    swapped: FloatArray
    moved: FloatArray
    usual_iou: FloatArray
    rates: tuple[float, float, float]


def _missing(scene: Scene) -> tuple[Suspects, Slip]:
    """Detections with no ground truth: the more certain, the more often such are confirmed."""
    boxes = scene.found.boxes
    matched = np.zeros(len(boxes))
    matched[scene.pairs.second] = 1.0
    usable = np.flatnonzero(scene.checkable & scene.known(boxes.label))
    fit = fit_slip(
        scene.found_x[usable],
        matched[usable],
        boxes.label[usable],
        len(scene.classes),
        centre=np.array([0.0, 1.0, 0.0, 0.0, 0.0, -3.0]),
        spread=np.array([3.0, 1.0, 1.0, 1.0, 3.0, 3.0]),
    )
    rows = usable[matched[usable] == 0.0]
    x, label = scene.found_x[rows], boxes.label[rows]
    return suspects(
        "missing",
        fit.wrong_label(x, label),
        boxes.image[rows],
        prediction=scene.found.prediction[rows],
        label=scene.classes[label],
        bbox=boxes.bbox[rows],
        reason="the detector is rarely wrong when this certain, and no box is there",
        evidence={
            "confidence": scene.found.confidence[rows],
            "precision": fit.right(x, label),
            "label_error_rate": np.full(len(rows), fit.slip),
        },
    ), fit


def _chance(scene: Scene) -> FloatArray:
    """Probability, for every pair, that its two boxes have nothing to do with each other.

    What chance does is tried out: the ground truth is moved to other images and matched with the detections left over there;
    a regression then tells such pairs from those at hand by confidence, IoU and class. Objects that were not found meet a
    left-over detection as often as moved ones do.
    """
    features = _pair_features(scene.pairs, scene.same, scene.found.confidence)
    moved, rows = _moved_truth(scene)
    if not len(rows) or not len(scene.pairs):
        return np.zeros(len(scene.pairs))
    left = np.ones(len(scene.found.boxes), dtype=bool)
    left[scene.pairs.second] = False
    spare = np.flatnonzero(left)
    near = overlapping_pairs(moved, scene.found.boxes.take(spare), min_iou=TOUCH)
    near = Pairs(near.first, spare[near.second], near.iou)
    same = moved.label[near.first] == scene.found.boxes.label[near.second]
    keep = same | (near.iou >= SAME_PLACE)
    near, same = near.take(keep), same[keep]
    chosen = assign(near, pair_weight(near, same, scene.found.confidence))
    by_chance = _pair_features(near.take(chosen), same[chosen], scene.found.confidence)
    real = (
        np.arange(len(features))
        if len(features) <= _NULL_ROWS
        else np.random.default_rng(1).permutation(len(features))[:_NULL_ROWS]
    )
    fit = fit_slip(
        np.concatenate([features[real], by_chance]),
        np.concatenate([np.zeros(len(real)), np.ones(len(by_chance))]),
        np.zeros(len(real) + len(by_chance), dtype=np.int64),
        1,
        centre=np.array([-3.0, 0.0, 0.0, 0.0]),
        spread=np.full(4, 5.0),
        with_slip=False,
    )
    moved_here = np.clip(fit.right(features, np.zeros(len(features), dtype=np.int64)), 0.0, 1.0 - 1e-9)
    # Moved pairs for every pair at hand, were all of the ground truth moved.
    ratio = moved_here / (1.0 - moved_here) * (len(real) / len(features)) / (len(rows) / len(scene.truth))
    unfound = (1.0 - len(scene.pairs) / len(scene.truth)) / max(1.0 - len(by_chance) / len(rows), 0.1)
    return np.asarray(np.minimum(unfound * ratio, 0.98))


def _fit_hits(scene: Scene, chance: FloatArray, rate: float) -> tuple[Slip, FloatArray]:
    """How often objects of each class and size are found, and the features that say so.

    What makes an object hard to find is learned from how certain the detector is of those it did find, as boxes on nothing
    have no part in that: whatever sizes they have, the detector is not blamed for them.
    """
    a, b = scene.pairs.first, scene.pairs.second
    ease = _predict(scene.truth_x, scene.truth.label, a, bounded_logit(scene.found.confidence[b]), len(scene.classes))
    x = np.stack([np.ones(len(ease)), ease], axis=1)
    hit = np.zeros(len(scene.truth))
    hit[a] = 1.0 - chance
    rows = np.flatnonzero(scene.predictable[scene.truth.label])
    fit = fit_slip(
        x[rows],
        hit[rows],
        scene.truth.label[rows],
        len(scene.classes),
        centre=np.array([2.5, 0.5]),
        spread=np.array([3.0, 0.3]),
        group_spread=0.5,
        rate=rate,
        strength=5.0 * STRENGTH,
    )
    return fit, x


def _predict(x: FloatArray, group: IntArray, rows: IntArray, y: FloatArray, n_groups: int) -> FloatArray:
    """Ridge regression with shrunken class effects on some rows, told for all; centred on those rows' mean."""
    y = y - y.mean() if len(y) else y
    effects = np.zeros(n_groups)
    count = np.bincount(group[rows], minlength=n_groups)
    for _ in range(5):
        ridge = 10.0 * np.eye(x.shape[1])
        weights = np.linalg.solve(x[rows].T @ x[rows] + ridge, x[rows].T @ (y - effects[group[rows]]))
        effects = np.bincount(group[rows], y - x[rows] @ weights, minlength=n_groups) / (count + 10.0)
    return np.asarray(x @ weights + effects[group])


def _free(scene: Scene) -> FloatArray:
    """How much rather a box of that class and size lies on nothing by chance than boxes do in general, for every object.

    A box that was put where no object is must have found room: on images that are full, it is small.
    """
    moved, rows = _moved_truth(scene)
    if not len(rows):
        return np.ones(len(scene.truth))
    free = np.ones(len(rows))
    free[overlapping_pairs(moved, scene.truth, min_iou=TOUCH).first] = 0.0
    x, label = scene.truth_x[:, :2], scene.truth.label
    centre, spread = np.array([0.0, 0.0]), np.array([3.0, 2.0])
    fit = fit_slip(
        x[rows], free, label[rows], len(scene.classes), centre=centre, spread=spread, group_spread=0.5, with_slip=False
    )
    share = fit.right(x, label)
    return np.asarray(share / share.mean())


def _moved_truth(scene: Scene) -> tuple[Boxes, IntArray]:
    """Some of the ground truth, each box on another image than its own, and its rows."""
    images = np.unique(scene.truth.image)
    if len(images) < 2:
        return scene.truth.take(np.zeros(0, dtype=np.int64)), np.zeros(0, dtype=np.int64)
    rows = np.sort(np.random.default_rng(0).permutation(len(scene.truth))[:_NULL_ROWS])
    moved = scene.truth.take(rows)
    target = np.roll(images, 1)[np.searchsorted(images, moved.image)]
    bbox = moved.bbox
    if scene.sizes is not None:
        here, there = scene.sizes[moved.image], scene.sizes[target]
        known = np.isfinite(here) & np.isfinite(there) & (here > 0) & (there > 0)
        bbox = bbox * np.tile(np.divide(there, here, out=np.ones_like(here), where=known), 2)
    return Boxes(target, bbox, moved.label), rows


def _unmatched_truth(scene: Scene, hit: Slip, ease: FloatArray, free: FloatArray) -> Suspects:
    """Boxes with no detection: suspicious where the detector usually finds such objects."""
    alone = np.ones(len(scene.truth), dtype=bool)
    alone[scene.pairs.first] = False
    rows = np.flatnonzero(alone & scene.predictable[scene.truth.label])
    x, label = ease[rows], scene.truth.label[rows]
    # Unlike a slip of the class, a spurious box is without a detection whether its like is usually found or not.
    odds = hit.slip * free[rows] / np.maximum((1.0 - hit.slip) * (1.0 - hit.right(x, label)), 1e-9)
    return suspects(
        "spurious",
        odds / (1.0 + odds),
        scene.truth.image[rows],
        annotation=scene.truth_rows[rows],
        reason="the detector usually finds such objects, and finds nothing here",
        evidence={"hit_rate": hit.right(x, label), "label_error_rate": np.full(len(rows), hit.slip)},
    )


def _matched(
    scene: Scene, pairs: _Verdicts, precision: Slip, hit: Slip, ease: FloatArray, min_score: float
) -> Suspects:
    """Boxes with a detection: another class, another place, or in truth nothing to do with it; the likeliest of the three."""
    a, b = scene.pairs.first, scene.pairs.second
    given, said = scene.truth.label[a], scene.found.boxes.label[b]
    found_rate = np.clip(hit.right(ease[a], given), 1e-6, 1.0 - 1e-6)
    unfound = hit.slip + (1.0 - hit.slip) * (1.0 - found_rate)
    average = np.clip(unfound.mean() if len(a) else 0.5, 1e-6, 1.0 - 1e-6)
    odds = pairs.chance / (1.0 - pairs.chance) * (unfound / (1.0 - unfound)) / (average / (1.0 - average))
    unrelated = odds / (1.0 + odds)
    scores = np.stack(
        [
            (1.0 - unrelated) * pairs.swapped,
            (1.0 - unrelated) * pairs.moved,
            unrelated * hit.slip / unfound * scene.predictable[given],
        ]
    )
    which = scores.argmax(axis=0)
    best = scores.max(axis=0)
    keep = np.flatnonzero(best >= min_score)
    a, b, which, given, said = a[keep], b[keep], which[keep], given[keep], said[keep]
    kind = np.array(["mislabeled", "mislocated", "spurious"])[which]
    reasons = (
        "the detector sees another class here, and it rarely confuses the two",
        "the box fits what the detector sees much worse than such boxes usually do",
        "the detector usually finds such objects, and what it sees here is something else",
    )
    known = scene.known(said)
    return suspects(
        kind,
        best[keep],
        scene.truth.image[a],
        annotation=scene.truth_rows[a],
        prediction=scene.found.prediction[b],
        label=np.where((which == 0) & known, scene.classes[said] if len(scene.classes) else said, -1),
        bbox=np.where((which == 1)[:, None], scene.found.boxes.bbox[b], np.nan),
        reason=np.array(reasons)[which],
        evidence={
            "confidence": scene.found.confidence[b],
            "precision": np.where(known, precision.right(scene.found_x[b], said), np.nan),
            "hit_rate": found_rate[keep],
            "iou": scene.pairs.iou[keep],
            "usual_iou": pairs.usual_iou[keep],
            "class_share": scene.share(b, said),
            "label_error_rate": np.array(pairs.rates)[which],
        },
    )


def _swapped(scene: Scene) -> tuple[FloatArray, Slip]:
    """Probability, for every pair, that the given class is wrong and the detector's right."""
    a, b = scene.pairs.first, scene.pairs.second
    given, said = scene.truth.label[a], scene.found.boxes.label[b]
    share = scene.share(b, said)
    x = np.stack(
        [np.ones(len(a)), bounded_logit(share), bounded_logit(scene.found.confidence[b]), scene.pairs.iou - 0.8], axis=1
    )
    comparable = scene.known(said) & scene.predictable[given]
    rows = np.flatnonzero(comparable & (scene.pairs.iou >= 0.5))
    fit = fit_slip(
        x[rows],
        scene.same[rows].astype(np.float64),
        said[rows],
        len(scene.classes),
        centre=np.array([2.5, 0.3, 0.3, 0.0]),
        spread=np.array([3.0, 1.0, 1.0, 3.0]),
    )
    differ = np.flatnonzero(comparable & ~scene.same)
    right = fit.right(x[differ], said[differ])
    result = np.zeros(len(a))
    result[differ] = _confusion(scene, differ, fit.slip * right, (1.0 - fit.slip) * (1.0 - right))
    return result, fit


def _confusion(scene: Scene, rows: IntArray, label_wrong: FloatArray, detector_wrong: FloatArray) -> FloatArray:
    """Posterior of a wrong label, given also which two classes differ.

    A detector confuses some pairs of classes often; annotators' slips are spread wider. Both habits are estimated from the
    disagreements themselves by expectation-maximisation: which class was truly there when the detector was wrong, and which
    one was written when the label was.
    """
    given, said = scene.truth.label[scene.pairs.first[rows]], scene.found.boxes.label[scene.pairs.second[rows]]
    n_classes = len(scene.classes)
    frequency = (np.bincount(scene.truth.label, minlength=n_classes) + 1.0) / (len(scene.truth) + n_classes)
    _, code = np.unique(said * n_classes + given, return_inverse=True)
    n_codes = int(code.max(initial=-1)) + 1
    # The detector's own second thoughts, where it has any, say better which class was confused with which.
    share, rest = scene.share(scene.pairs.second[rows], given), 1.0 - scene.share(scene.pairs.second[rows], said)
    doubt = np.where(rest > 1e-6, share / np.maximum(rest, 1e-6), 0.0)
    others = np.maximum(1.0 - frequency[said], 1e-6)
    common, even = frequency[given] / others, np.full(len(rows), 1.0 / max(n_classes - 1, 1))
    strength = 10.0
    posterior = label_wrong / np.maximum(label_wrong + detector_wrong, 1e-300)
    for _ in range(8):

        def habit(weight: FloatArray, prior: FloatArray) -> FloatArray:
            own = np.bincount(code, weight, minlength=n_codes)[code]
            total = np.bincount(said, weight, minlength=n_classes)[said]
            return np.asarray((own + strength * prior) / (total + strength))

        written = habit(posterior, even)
        confused = habit(1.0 - posterior, common)
        confused = np.where(doubt > 0, 0.5 * (confused + doubt), confused)
        wrong = label_wrong * written
        posterior = wrong / np.maximum(wrong + detector_wrong * confused, 1e-300)
    return posterior


def _moved(scene: Scene, chance: FloatArray) -> tuple[FloatArray, BoxFit, FloatArray]:
    """Probability, for every pair, that the given box is in the wrong place; the fit, and the usual IoU."""
    a, b = scene.pairs.first, scene.pairs.second
    x = np.stack([np.ones(len(a)), bounded_logit(scene.found.confidence[b]), scene.truth_x[a, 1]], axis=1)
    x[:, 1] -= np.median(x[:, 1]) if len(x) else 0.0
    rows = np.flatnonzero(scene.same)
    given = scene.truth.label[a]
    fit = fit_boxes(scene.pairs.iou[rows], x[rows], given[rows], len(scene.classes), weight=1.0 - chance[rows])
    return fit.misplaced(scene.pairs.iou, x, given), fit, fit.usual_iou(x, given)


def _pair_features(pairs: Pairs, same: BoolArray, confidence: FloatArray) -> FloatArray:
    return np.stack([np.ones(len(pairs)), bounded_logit(confidence[pairs.second]), pairs.iou, same], axis=1)
