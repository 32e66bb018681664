"""Label errors that a detector's predictions reveal: missing, spurious, mislocated and mislabeled boxes, on one scale.

The four kinds are those of ObjectLab (Tkachenko et al. 2023, "ObjectLab: Automated diagnosis of mislabeled images in object
detection data") and spurious boxes. In place of its hand-made scores, every score here is the probability that the label is
wrong rather than the detector, and what that detector makes of wrong labels is tried out on the very data:

1. Ground truth and detections are assigned one to one, whatever their classes (`curate.checks.mistakes.scene`), so that a moved
   box is not a missing and a spurious one.
2. What is usual is estimated: confidence by class and size, fit of the boxes, shapes (`curate.checks.mistakes.habits`).
3. Errors of every kind are rehearsed: some boxes at a time are swapped, shifted, added and deleted, and seen again beside the
   detections (`curate.checks.mistakes.rehearsal`, `curate.checks.mistakes.clues`).
4. How much likelier each label is as a rehearsed error than as a label at hand, times the share of errors that the data leave
   room for, is the probability (`curate.checks.mistakes.contrast`).

One object gives one suspect: that of the likeliest kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from curate.checks.boxes import Boxes, FloatArray, IntArray, check_sizes
from curate.checks.mistakes.clues import Clues, read_clues
from curate.checks.mistakes.contrast import Contrast, Examples, contrast
from curate.checks.mistakes.ensemble import fuse
from curate.checks.mistakes.habits import Habits, learn_habits
from curate.checks.mistakes.looks import Looks, weigh
from curate.checks.mistakes.rehearsal import rehearse
from curate.checks.mistakes.scene import Scene, bounded_logit
from curate.checks.mistakes.slip import fit_slip
from curate.checks.mistakes.tables import Suspects, merge, suspects

_FEW: Final = 50
"""Detections without a box, below which they are no distribution."""

_OF_BOXES: Final = ("mislabeled", "mislocated", "spurious")

_REASONS: Final = {
    ("mislabeled", True): "the detector sees another class here, as it does where labels are swapped",
    ("mislabeled", False): "what is detected around the box is as where labels are swapped",
    ("mislocated", True): "the box fits what the detector sees much worse than such boxes usually do",
    ("mislocated", False): "what is detected around the box is as where boxes are moved",
    ("spurious", True): "what the detector sees here is no more than it sees on places without an object",
    ("spurious", False): "the detector usually finds such objects, and finds nothing here",
}
"""By kind, and whether the box has a detection."""


def detection_errors(
    truth: Boxes,
    layers: Sequence[Boxes],
    *,
    sizes: FloatArray | None = None,
    classes: IntArray | None = None,
    min_score: float = 0.01,
    looks: Looks | None = None,
) -> Suspects:
    """Suspected label errors, given the predictions of one detector or of several.

    Args:
        truth: n ground-truth boxes; `covered` says which images were labelled. Crowd regions are never suspects.
        layers: Predictions, each layer with scores; `covered` says which images its detector has seen. Images that no layer has
            seen are not looked at. All predictions help, also those of little confidence.
        sizes: float64 array of shape (m, 2), width and height of the images; makes sizes of objects relative. None if unknown.
        classes: int64 array, the labels that the ground truth may use; by default those it does. A prediction of any other
            class says that there is something, but is never missing and never a better label.
        min_score: Suspects below are left out.
        looks: What the crops of the ground truth's boxes say of them; by default nothing.

    Returns:
        At most one suspect per object; none where there are too few boxes to learn from (some dozens, on several images).
        Evidence, where it applies: `confidence` of the detection; `hit_rate`, how often boxes of this class are confirmed;
        `iou` and `usual_iou`; `class_share`, how much of the detector's evidence about the class speaks for the one it says;
        `times_likelier`, how many times likelier this is where such an error was rehearsed than among the labels at hand;
        `label_error_rate`, the share of labels that seem to be wrong in this way; for a box `p_mislabeled`, `p_mislocated` and
        `p_spurious`, the probability of each kind, of which the highest is the score.

    Raises:
        InputError: A layer has no scores, or scores outside of [0, 1], or an image has no row in `sizes`.
    """
    if sizes is not None:
        check_sizes(sizes, truth, *layers)
    detections = fuse(layers)
    known = np.union1d(truth.label, [] if classes is None else classes).astype(np.int64)
    scene = Scene.of(truth, detections, layers, known, sizes)
    if not len(scene.truth) or not len(detections.boxes):
        return merge([])
    habits = learn_habits(scene)
    clues = read_clues(scene, habits, scene.truth)
    rehearsed = rehearse(scene, habits, clues)
    none = clues.boxes.take(np.zeros(0, dtype=np.int64))
    judged = np.flatnonzero(scene.known(scene.truth.label))
    errors = [rehearsed.get(kind, none) for kind in _OF_BOXES]
    spurious = _OF_BOXES.index("spurious")
    of_boxes = contrast(clues.boxes.take(judged), errors, len(known), scene.n_images, ambiguous=spurious)
    deleted = rehearsed.get("missing", clues.detections.take(np.zeros(0, dtype=np.int64)))
    parts = [
        _wrong_boxes(scene, habits, clues, of_boxes, judged, min_score, looks),
        _missing(scene, habits, clues, deleted, min_score),
    ]
    return merge(parts)


def _wrong_boxes(
    scene: Scene,
    habits: Habits,
    clues: Clues,
    judged: Contrast,
    rows: IntArray,
    min_score: float,
    looks: Looks | None,
) -> Suspects:
    """The likeliest error of every box."""
    probability = judged.probability.copy()
    mislabeled, spurious = _OF_BOXES.index("mislabeled"), _OF_BOXES.index("spurious")
    # That nothing is seen of a class that the detector does not know is no news.
    probability[~scene.predictable[scene.truth.label[rows]], spurious] = 0.0
    # A label is not wrong unless there is another that is better.
    probability[clues.rival[rows] < 0, mislabeled] = 0.0
    if looks is not None:
        own, likelier = looks.take(scene.truth_rows[rows]), np.ones_like(probability)
        likelier[:, spurious] = np.where(clues.detection_of[rows] < 0, own.for_nothing(), 1.0)
        likelier[:, mislabeled] = own.for_another_class()
        probability = weigh(probability, likelier)
    which = probability.argmax(axis=1)
    best = probability.max(axis=1, initial=0.0)
    keep = np.flatnonzero(best >= min_score)
    which, boxes = which[keep], rows[keep]
    kind = np.array(_OF_BOXES)[which]
    found = np.where(kind == "mislabeled", clues.rival[boxes], clues.detection_of[boxes])
    has, d = found >= 0, np.maximum(found, 0)
    given, said = scene.truth.label[boxes], np.where(has, scene.found.boxes.label[d], -1)
    reason = np.array([[_REASONS[name, seen] for seen in (False, True)] for name in _OF_BOXES])
    size = habits.size(scene.truth.take(boxes), scene.sizes)
    usual = habits.fit.usual_iou(habits.fit_features(habits.confidence(scene.found.confidence[d]), size), given)
    return suspects(
        kind,
        best[keep],
        scene.truth.image[boxes],
        annotation=scene.truth_rows[boxes],
        prediction=np.where(has, scene.found.prediction[d], -1),
        label=np.where(kind == "mislabeled", scene.classes[said], -1),
        bbox=np.where(((kind == "mislocated") & has)[:, None], scene.found.boxes.bbox[d], np.nan),
        reason=reason[which, has.astype(np.int64)],
        evidence={
            "confidence": np.where(has, scene.found.confidence[d], np.nan),
            "hit_rate": habits.found_of_class[given],
            "iou": np.where(has & (found == clues.detection_of[boxes]), clues.iou[boxes], np.nan),
            "usual_iou": np.where(has, usual, np.nan),
            "class_share": np.where(has, scene.share(d, said), np.nan),
            "times_likelier": judged.ratio[keep, which],
            "label_error_rate": judged.share[which],
            **{f"p_{name}": probability[keep, k] for k, name in enumerate(_OF_BOXES)},
        },
    )


def _missing(scene: Scene, habits: Habits, clues: Clues, deleted: Examples, min_score: float) -> Suspects:
    """Detections with no ground truth."""
    rows = np.flatnonzero((clues.box_of < 0) & scene.checkable & scene.known(scene.found.boxes.label))
    if len(rows) >= _FEW:
        observed = clues.detections.take(rows)
        judged = contrast(observed, [deleted], len(scene.classes), scene.n_images, labels=len(scene.truth))
        probability, ratio = judged.probability[:, 0], judged.ratio[:, 0]
        share = float(judged.share[0]) * len(rows) / len(scene.truth)
    else:
        probability, share = _of_few(scene, clues, rows)
        ratio = np.full(len(rows), np.nan)
    keep = np.flatnonzero(probability >= min_score)
    found, label = rows[keep], scene.found.boxes.label[rows[keep]]
    return suspects(
        "missing",
        probability[keep],
        scene.found.boxes.image[found],
        prediction=scene.found.prediction[found],
        label=scene.classes[label],
        bbox=scene.found.boxes.bbox[found],
        reason="the detector sees an object as it sees those that are labelled, and no box is there",
        evidence={
            "confidence": scene.found.confidence[found],
            "hit_rate": habits.found_of_class[label],
            "class_share": scene.share(found, label),
            "times_likelier": ratio[keep],
            "label_error_rate": np.full(len(keep), share),
        },
    )


def _of_few(scene: Scene, clues: Clues, rows: IntArray) -> tuple[FloatArray, float]:
    """Probability that detections without a box are right, where they are too few to be contrasted; and the rate of slips.

    A model of how often detections are confirmed stands in, in which labels slip at a rate that is usual in other sets.
    """
    usable = np.flatnonzero(scene.checkable & scene.known(scene.found.boxes.label))
    confidence = bounded_logit(scene.found.confidence)
    x = np.stack([np.ones(len(confidence)), confidence, scene.found.double], axis=1)
    label = scene.found.boxes.label
    matched = (clues.box_of >= 0).astype(np.float64)
    fit = fit_slip(
        x[usable],
        matched[usable],
        label[usable],
        len(scene.classes),
        centre=np.array([0.0, 1.0, -3.0]),
        spread=np.array([3.0, 1.0, 3.0]),
    )
    return fit.wrong_label(x[rows], label[rows]), fit.slip
