"""What a segmenter's output is compared with, pixel by pixel and region by region; void pixels count nowhere.

A loss is a sum of parts, 'dice+ce' by default:

    ce        cross entropy, weighted by class
    focal     the same with less weight for pixels that are right already (Lin et al. 2017, gamma 2)
    dice      1 - Dice coefficient, mean over the channels present in the batch (Milletari et al. 2016)
    tversky   the same where what is missed weighs more than what is too much (Salehi et al. 2017, 0.7 and 0.3)
    lovasz    a bound of 1 - IoU, mean over the channels present in the batch (Berman et al. 2018)

All are computed in float32, over all pixels of a batch together: a class that is on one image of eight is judged there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from curate.errors import UsageError
from curate.models.predictors.base import VOID

DEFAULT: Final = "dice+ce"

_GAMMA: Final = 2.0
_MISSED: Final = 0.7
_TOO_MUCH: Final = 0.3
_SMOOTH: Final = 1.0


def parse_loss(text: str) -> tuple[str, ...]:
    """The parts of a loss that is written 'dice+ce'.

    Raises:
        UsageError: There is no such part.
    """
    names = tuple(part.strip().lower() for part in text.split("+"))
    for name in names:
        if name not in PARTS:
            raise UsageError(
                f"there is no loss '{name}' for segmentation",
                where=text,
                remedy=f"one of {', '.join(PARTS)}, or a sum of them such as {DEFAULT}",
            )
    return names


def segmentation_loss(parts: Sequence[str], logits: Any, targets: Any, weights: Any) -> tuple[Any, dict[str, float]]:
    """The sum of some losses, and each of them as a number.

    Args:
        parts: Names.
        logits: Tensor of shape (n, channels, height, width).
        targets: Channel of each pixel or `VOID`; integer tensor of shape (n, height, width).
        weights: Of the channels, for 'ce' and 'focal'; float tensor of shape (channels,).

    Returns:
        A scalar tensor, which is 0 where every pixel is void, and the parts.
    """
    seen = targets != VOID
    # A row for each pixel that counts.
    scores = logits.float().movedim(1, -1)[seen]
    channels = targets[seen].long()
    if len(channels) == 0:
        return scores.sum(), dict.fromkeys(parts, 0.0)
    losses = {name: PARTS[name](scores, channels, weights) for name in parts}
    return sum(losses.values()), {name: float(value.detach()) for name, value in losses.items()}


def _cross_entropy(scores: Any, channels: Any, weights: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(scores, channels, weight=weights)


def _focal(scores: Any, channels: Any, weights: Any) -> Any:
    right = scores.log_softmax(dim=1).gather(1, channels[:, None])[:, 0]
    share = weights[channels]
    return -(share * (1 - right.exp()) ** _GAMMA * right).sum() / share.sum()


def _dice(scores: Any, channels: Any, weights: Any) -> Any:
    return _overlap(scores, channels, 0.5, 0.5)


def _tversky(scores: Any, channels: Any, weights: Any) -> Any:
    return _overlap(scores, channels, _MISSED, _TOO_MUCH)


def _overlap(scores: Any, channels: Any, missed: float, too_much: float) -> Any:
    """1 - both / (both + missed * (truth - both) + too_much * (said - both)), mean over the channels that are there."""
    import torch

    said = scores.softmax(dim=1)
    truth = torch.bincount(channels, minlength=scores.shape[1]).to(said.dtype)
    right = said.gather(1, channels[:, None])[:, 0]
    both = torch.zeros_like(truth).index_add(0, channels, right)
    whole = both + missed * (truth - both) + too_much * (said.sum(dim=0) - both)
    share = (both + _SMOOTH) / (whole + _SMOOTH)
    return 1 - share[truth > 0].mean()


def _lovasz(scores: Any, channels: Any, weights: Any) -> Any:
    import torch

    said = scores.softmax(dim=1)
    losses = []
    for channel in channels.unique().tolist():
        truth = (channels == channel).to(said.dtype)
        errors, order = (truth - said[:, channel]).abs().sort(descending=True)
        truth = truth[order]
        missed = truth.cumsum(0)
        jaccard = 1 - (truth.sum() - missed) / (truth.sum() + (1 - truth).cumsum(0))
        steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        losses.append((errors * steps).sum())  # `@` would be in half precision under autocast
    return torch.stack(losses).mean()


PARTS: Final[dict[str, Callable[[Any, Any, Any], Any]]] = {
    "ce": _cross_entropy,
    "focal": _focal,
    "dice": _dice,
    "tversky": _tversky,
    "lovasz": _lovasz,
}
"""What a loss may be a sum of."""
