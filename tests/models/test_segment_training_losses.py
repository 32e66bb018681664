"""Losses and metrics of segmentation against their definitions, pixel by pixel, and against another library's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.models.predictors.base import VOID
from curate.models.training.segment.counts import METRIC, Counts, metrics
from curate.models.training.segment.losses import PARTS, parse_loss, segmentation_loss

torch = pytest.importorskip("torch")

CHANNELS = 3

Floats = npt.NDArray[np.float64]


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def by_definition(name: str, logits: Floats, targets: npt.NDArray[np.int64], weights: Floats) -> float:
    """A loss as the papers have it, one pixel after the other."""
    pixels = [
        (softmax(logits[n, :, y, x]), int(targets[n, y, x]))
        for n, y, x in np.ndindex(targets.shape)
        if targets[n, y, x] != VOID
    ]
    if not pixels:
        return 0.0
    if name in ("ce", "focal"):
        total = sum(-weights[t] * math.log(p[t]) * ((1 - p[t]) ** 2 if name == "focal" else 1.0) for p, t in pixels)
        return float(total / sum(weights[t] for _, t in pixels))
    present = sorted({t for _, t in pixels})
    losses = []
    for channel in present:
        said = np.array([p[channel] for p, _ in pixels])
        truth = np.array([float(t == channel) for _, t in pixels])
        if name == "lovasz":
            losses.append(lovasz_extension(np.abs(truth - said), truth))
            continue
        both, missed, too_much = (said * truth).sum(), ((1 - said) * truth).sum(), (said * (1 - truth)).sum()
        a, b = (0.5, 0.5) if name == "dice" else (0.7, 0.3)
        losses.append(1 - (both + 1) / (both + a * missed + b * too_much + 1))
    return float(np.mean(losses))


def lovasz_extension(errors: Floats, truth: Floats) -> float:
    """Of the Jaccard loss of a set of wrong pixels, |wrong| / |truth or wrong|."""
    order = np.argsort(-errors, kind="stable")
    total, before = 0.0, 0.0
    for count in range(1, len(order) + 1):
        wrong = np.zeros(len(order), dtype=bool)
        wrong[order[:count]] = True
        jaccard = wrong.sum() / (wrong | (truth > 0)).sum()
        total += errors[order[count - 1]] * (jaccard - before)
        before = jaccard
    return total


@st.composite
def cases(drawn: st.DrawFn) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    rng = np.random.default_rng(drawn(st.integers(0, 10_000)))
    shape = drawn(st.integers(1, 2)), drawn(st.integers(1, 4)), drawn(st.integers(1, 4))
    logits = rng.normal(scale=drawn(st.floats(0.1, 4)), size=(shape[0], CHANNELS, *shape[1:]))
    targets = rng.integers(-1, drawn(st.integers(0, CHANNELS)), shape)
    return logits, targets, rng.uniform(0.2, 5, CHANNELS)


@pytest.mark.parametrize("name", PARTS)
@given(case=cases())
@settings(deadline=None, max_examples=50)
def test_losses_are_what_the_papers_say(name: str, case: tuple[Floats, Any, Floats]) -> None:
    logits, targets, weights = case
    loss, parts = segmentation_loss(
        (name,), torch.tensor(logits, dtype=torch.float32), torch.tensor(targets), torch.tensor(weights).float()
    )
    expected = by_definition(name, logits, targets, weights)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert parts == {name: pytest.approx(expected, rel=1e-4, abs=1e-5)}


@pytest.mark.parametrize("name", PARTS)
def test_void_pixels_have_no_gradient_and_a_void_batch_none_at_all(name: str) -> None:
    logits = torch.randn(2, CHANNELS, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.randint(0, CHANNELS, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    targets[0, :2] = VOID
    loss, _ = segmentation_loss((name,), logits, targets, torch.ones(CHANNELS))
    loss.backward()
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:] != 0).any()
    logits.grad = None
    loss, parts = segmentation_loss((name,), logits, torch.full_like(targets, VOID), torch.ones(CHANNELS))
    loss.backward()
    assert float(loss.detach()) == 0
    assert parts == {name: 0.0}
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", PARTS)
def test_half_precision_logits_are_compared_in_single_precision(name: str) -> None:
    logits = 8 * torch.randn(1, CHANNELS, 64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.randint(0, CHANNELS, (1, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.int16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, _ = segmentation_loss((name,), logits, targets, torch.ones(CHANNELS))
    full, _ = segmentation_loss((name,), logits.float(), targets, torch.ones(CHANNELS))
    assert half.dtype == torch.float32
    assert float(half) == float(full)


@pytest.mark.parametrize("name", PARTS)
def test_right_is_better_than_unsure_and_unsure_than_wrong(name: str) -> None:
    targets = torch.tensor([[[0, 0, 1], [2, 2, 1]]])
    right = 12.0 * torch.nn.functional.one_hot(targets, CHANNELS).movedim(-1, 1)
    wrong = 12.0 * torch.nn.functional.one_hot((targets + 1) % CHANNELS, CHANNELS).movedim(-1, 1)
    losses = [
        float(segmentation_loss((name,), logits, targets, torch.ones(CHANNELS))[0])
        for logits in (right, torch.zeros_like(right), wrong)
    ]
    assert losses == sorted(losses)
    assert losses[0] < 0.01


def test_dice_and_lovasz_agree_with_another_library() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits = torch.randn(2, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, CHANNELS, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    one = torch.ones(CHANNELS)
    theirs = smp.losses.DiceLoss("multiclass", smooth=1.0)(logits, targets)
    assert float(segmentation_loss(("dice",), logits, targets, one)[0]) == pytest.approx(float(theirs), rel=1e-5)
    theirs = smp.losses.LovaszLoss("multiclass", per_image=False)(logits, targets)
    assert float(segmentation_loss(("lovasz",), logits, targets, one)[0]) == pytest.approx(float(theirs), rel=1e-5)


def test_a_loss_is_a_sum_of_its_parts() -> None:
    logits = torch.randn(1, CHANNELS, 5, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, CHANNELS, (1, 5, 5), generator=torch.Generator().manual_seed(1))
    total, parts = segmentation_loss(parse_loss(" Dice + ce+lovasz"), logits, targets, torch.ones(CHANNELS))
    assert list(parts) == ["dice", "ce", "lovasz"]
    assert float(total) == pytest.approx(sum(parts.values()), rel=1e-6)


@pytest.mark.parametrize("text", ["", "dice+", "mse", "dice ce"])
def test_a_loss_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="one of ce, focal, dice, tversky, lovasz"):
        parse_loss(text)


@given(seed=st.integers(0, 999), background=st.booleans(), images=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_metrics_of_counts_are_those_of_all_pixels_together(seed: int, background: bool, images: int) -> None:
    rng = np.random.default_rng(seed)
    classes = ["a", "b", "c"]
    channels = len(classes) + background
    said, truth, counts = [], [], []
    for _ in range(images):
        shape = rng.integers(1, 9, 2)
        some = rng.integers(1, channels + 1)
        said.append(rng.integers(-1, channels, shape).astype(np.int16))
        truth.append(rng.integers(-1, some, shape).astype(np.int16))
        counts.append(Counts.of(said[-1], truth[-1], channels))
    found = metrics(counts, classes, background=background)
    pairs = [
        (int(a), int(b)) for x, y in zip(said, truth, strict=True) for a, b in zip(x.ravel(), y.ravel(), strict=True)
    ]
    known = [(a, b) for a, b in pairs if b != VOID]
    names = ["background", *classes] if background else classes
    expected_iou, expected_dice = {}, {}
    for channel, name in enumerate(names):
        both = sum(a == b == channel for a, b in known)
        truths, saids = sum(b == channel for _, b in known), sum(a == channel for a, _ in known)
        if truths:
            expected_iou[name] = both / (truths + saids - both)
            expected_dice[name] = 2 * both / (truths + saids)
    assert {key[4:]: value for key, value in found.items() if key.startswith("iou/")} == pytest.approx(expected_iou)
    assert {key[5:]: value for key, value in found.items() if key.startswith("dice/")} == pytest.approx(expected_dice)
    meant = [name for name in expected_iou if name != "background"] or list(expected_iou)
    assert found[METRIC] == pytest.approx(np.mean([expected_iou[name] for name in meant]) if meant else 0)
    assert found["mean_dice"] == pytest.approx(np.mean([expected_dice[name] for name in meant]) if meant else 0)
    right = np.mean([a == b for a, b in known]) if known else 0
    assert found["pixel_accuracy"] == pytest.approx(right)


def test_large_maps_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    said, truth = (rng.integers(-1, 3, (30, 41)).astype(np.int16) for _ in range(2))
    whole = Counts.of(said, truth, 3)
    monkeypatch.setattr("curate.models.training.segment.counts._PART", 7)
    parts = Counts.of(said, np.asfortranarray(truth), 3)
    np.testing.assert_array_equal(parts.both, whole.both)
    np.testing.assert_array_equal(parts.truth, [(truth == channel).sum() for channel in range(3)])
    np.testing.assert_array_equal(parts.said, whole.said)


def test_a_class_called_background_is_told_from_the_pixels_of_none() -> None:
    counts = Counts.of(np.array([[0, 1, 2]], np.int16), np.array([[0, 1, 2]], np.int16), 3)
    found = metrics([counts], ["background", "thing"], background=True)
    assert [key for key in found if key.startswith("iou/")] == ["iou/(none)", "iou/background", "iou/thing"]
