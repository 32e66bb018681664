"""The learner of a classifier: what is left open is chosen by the number of images, the device, and what is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.models.encoders.builtin import SIDE
from curate.models.training.base import PRETRAINED, SCRATCH, Example, Freeze, Learner, TrainingSettings
from curate.models.training.classify import builtin, timm
from curate.models.training.classify.learner import Classifier, Network
from curate.models.training.classify.mixing import Mixing
from curate.models.training.defaults import option, require_known

DEFAULT_CPU: Final = "mobilenetv4_conv_small.e2400_r224_in1k"
DEFAULT_GPU: Final = "convnext_nano.in12k_ft_in1k"
"""Networks of timm, under the Apache licence, that are taken where their weights are on this disk."""

OPTIONS: Final = {
    "mixup": "alpha of MixUp, 0 for none",
    "cutmix": "alpha of CutMix, 0 for none",
    "label_smoothing": "part of a target that goes to all classes, 0 to 0.5",
    "backbone_lr": "learning rate of what starts from trained weights, as a part of the head's: 0.001 to 1",
    "last_parts": "with 'most' frozen: how many of the network's last parts learn besides the head, 1 to 100; else a quarter",
    "balance": "how much more rare classes count in the loss: 0 not at all, 1 in inverse proportion to their images",
    "head": "of 'builtin': linear or mlp",
}

_STEPS: Final = {"backbone": 1500, "most": 2500, "nothing": 4000}
"""What a training takes, about; epochs follow from it."""

_FEWEST_EPOCHS: Final = {"backbone": 10, "most": 8, "nothing": 8}
_MOST_EPOCHS: Final = {"backbone": 200, "most": 60, "nothing": 80}
_SCRATCH_EPOCHS: Final = (30, 200)
_SCRATCH_STEPS: Final = 15000
_MANY: Final = 500
"""Images from which on a network, or a head with a hidden layer, has enough to learn from."""

_IMBALANCED: Final = 3.0


def create(
    settings: TrainingSettings, classes: tuple[str, ...], examples: Sequence[Example], say: Callable[[str], None]
) -> Learner:
    """Make the learner; see `curate.models.training.base.CreateLearner`.

    Raises:
        UsageError: A setting makes no sense.
        UnavailableError: Weights that cannot be had.
    """
    require_known(settings.options, OPTIONS)
    if len(classes) < 2:
        raise UsageError(
            f"all images are '{classes[0]}': there is nothing to tell apart",
            remedy="choose images of at least two classes",
        )
    settings = _choose_model(settings, say)
    settings = _choose_rest(settings, len(examples))
    network: Network = _network(settings, classes, examples)
    options = settings.options or {}
    labels = np.array([example.label for example in examples])
    counts = np.bincount(labels, minlength=len(classes))
    weights, balance = _class_weights(counts, options, say)
    mixing = Mixing(*(option(options, name, 0.0, 0.0, 10.0) for name in ("mixup", "cutmix")))
    smoothing = option(options, "label_smoothing", 0.0, 0.0, 0.5)
    settings = replace(settings, options={**options, "balance": balance})
    say(
        f"model {settings.model} ({settings.weights}), {_FROZEN[settings.freeze or 'nothing']}, {settings.image_size} pixels, "
        f"batches of {settings.batch_size}, at most {settings.epochs} epochs"
    )
    return Classifier(settings, classes, network, weights, mixing, smoothing, _backbone_rate(settings))


_FROZEN: Final = {
    "backbone": "only the head learns",
    "most": "the last part learns",
    "nothing": "all of it learns",
}


def _choose_model(settings: TrainingSettings, say: Callable[[str], None]) -> TrainingSettings:
    """The network and its weights: pretrained ones only if they were asked for, or are on this disk."""
    if settings.model not in (None, builtin.NAME):
        weights = settings.weights or PRETRAINED
        name = str(settings.model)
        return replace(settings, model=timm.with_tag(name) if weights == PRETRAINED else name, weights=weights)
    if settings.model == builtin.NAME:
        if settings.weights not in (None, PRETRAINED, builtin.NAME):
            raise UsageError(
                f"the built-in encoder has its own weights, not '{settings.weights}'",
                where="--weights",
                remedy="leave --weights out, or name a network of timm with --model",
            )
        return replace(settings, weights=builtin.NAME)
    on_gpu = (settings.device or "cpu") != "cpu"
    default = DEFAULT_GPU if on_gpu else DEFAULT_CPU
    if settings.weights is not None:
        return replace(settings, model=default if settings.weights == PRETRAINED else default.partition(".")[0])
    if timm.are_weights_here(default):
        say(f"model: {default}, whose weights are on this disk")
        return replace(settings, model=default, weights=PRETRAINED)
    say(
        f"model: a head on the built-in encoder, since the weights of {default} are not on this disk; "
        "'--weights pretrained' fetches them, and sees more"
    )
    return replace(settings, model=builtin.NAME, weights=builtin.NAME)


def _choose_rest(settings: TrainingSettings, count: int) -> TrainingSettings:
    """Everything else that is open."""
    is_builtin, is_scratch = settings.model == builtin.NAME, settings.weights == SCRATCH
    on_gpu = (settings.device or "cpu") != "cpu"
    freeze = settings.freeze or _default_freeze(is_builtin, is_scratch, on_gpu, count)
    if is_builtin and freeze != "backbone":
        raise UsageError(
            "the built-in encoder stays as it is",
            where=f"--freeze {freeze}",
            remedy="name a network of timm with --model",
        )
    if is_scratch and freeze != "nothing":
        raise UsageError(
            "a network that begins from scratch has nothing worth freezing",
            where=f"--freeze {freeze}",
            remedy="--freeze nothing, or --weights pretrained",
        )
    side = SIDE if is_builtin else settings.image_size or timm.input_side(str(settings.model))
    if is_builtin and settings.image_size not in (None, SIDE):
        raise UsageError(
            f"the built-in encoder takes {SIDE} pixels",
            where="--image-size",
            remedy="name a network of timm with --model",
        )
    batch = settings.batch_size or min(64 if freeze == "backbone" or on_gpu else 32, max(count, 1))
    epochs = settings.epochs or _epochs(freeze, is_scratch, max(1, count // batch))
    fine = freeze != "backbone"
    options: dict[str, Any] = {"label_smoothing": 0.1 if fine else 0.0}
    if freeze == "nothing" and epochs >= 20:
        options |= {"mixup": 0.2, "cutmix": 1.0}
    if is_builtin:
        # On crops of seven kinds of rendered parts, four divisions: 0.909 against 0.900 of a linear head without MixUp.
        options |= {"head": "mlp" if count >= _MANY else "linear", "mixup": 0.4 if count >= _MANY else 0.2}
    augment = settings.augment if settings.augment is not None else (0.5 if fine else 0.0)
    if is_builtin and augment:
        raise UsageError(
            "the head learns on vectors that are computed once, which nothing changes at random",
            where="--set augment",
            remedy="leave it out, or name a network of timm with --model",
        )
    return replace(
        settings,
        freeze=freeze,
        image_size=side,
        batch_size=batch,
        epochs=epochs,
        learning_rate=settings.learning_rate or (1e-3 if fine else 2e-3),
        patience=settings.patience or max(10, epochs // 4),
        augment=augment,
        options={**options, **(settings.options or {})},
    )


def _default_freeze(is_builtin: bool, is_scratch: bool, on_gpu: bool, count: int) -> Freeze:
    if is_builtin:
        return "backbone"
    if is_scratch:
        return "nothing"
    if not on_gpu:
        return "backbone"
    return "nothing" if count >= _MANY else "most"


def _epochs(freeze: Freeze, is_scratch: bool, steps: int) -> int:
    """As many as make enough steps, within limits."""
    if is_scratch:
        return int(np.clip(round(_SCRATCH_STEPS / steps), *_SCRATCH_EPOCHS))
    return int(np.clip(round(_STEPS[freeze] / steps), _FEWEST_EPOCHS[freeze], _MOST_EPOCHS[freeze]))


def _network(settings: TrainingSettings, classes: tuple[str, ...], examples: Sequence[Example]) -> Network:
    if settings.model == builtin.NAME:
        head = str((settings.options or {}).get("head"))
        if head not in ("linear", "mlp"):
            raise UsageError(f"there is no head '{head}'", where="--set head", remedy="linear or mlp")
        return builtin.BuiltinNetwork(classes, head, [example.image_id for example in examples])
    if "head" in (settings.options or {}):
        raise UsageError("'head' is an option of the built-in encoder", where="--set", remedy="leave it out")
    return timm.TimmNetwork(
        str(settings.model), str(settings.weights), classes, settings.freeze or "nothing", settings.image_size,
        settings.device or "cpu", _last_parts(settings),
    )  # fmt: skip


def _last_parts(settings: TrainingSettings) -> int | None:
    """How many of the last parts of a network learn, where somebody says so."""
    options = settings.options or {}
    if "last_parts" not in options:
        return None
    # With 'nothing' frozen it has no say: `curate compress` lets all of a run's network learn on, whatever the run's options.
    if settings.freeze == "backbone" or settings.weights == SCRATCH:
        raise UsageError("it says what learns with 'most' frozen", where="--set last_parts", remedy="--freeze most")
    return int(option(options, "last_parts", 1, 1, 100))


def _backbone_rate(settings: TrainingSettings) -> float:
    """What the backbone's learning rate is of the head's: a tenth where it starts from trained weights."""
    options = settings.options or {}
    if settings.freeze == "backbone" and "backbone_lr" in options:
        raise UsageError(
            "the backbone does not learn", where="--set backbone_lr", remedy="--freeze most, or --freeze nothing"
        )
    return option(options, "backbone_lr", 1.0 if settings.weights == SCRATCH else 0.1, 0.001, 1.0)


def _class_weights(
    counts: npt.NDArray[np.int64], options: Any, say: Callable[[str], None]
) -> tuple[npt.NDArray[np.float32], float]:
    """Weights of the classes in the loss, whose mean over the images is 1, and the exponent that they come from."""
    there = counts[counts > 0]
    ratio = float(there.max() / there.min())
    balance = option(options, "balance", 0.5 if ratio > _IMBALANCED else 0.0, 0.0, 1.0)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -balance, 0.0)
    weights *= counts.sum() / (weights * counts).sum()
    if balance:
        say(
            f"the largest class has {ratio:.1f} times the images of the smallest: rare ones count more (balance {balance:g})"
        )
    return weights.astype(np.float32), balance
