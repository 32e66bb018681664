"""The learner of semantic segmentation; see `curate.models.training.base.Learner`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.imaging import Pixels
from curate.models.predictors.base import VOID, Size
from curate.models.predictors.layouts.maps import read_class_map
from curate.models.predictors.preparation import Preparation, make_preparation
from curate.models.predictors.sidecar import ClassMapLayout, Sidecar, write_sidecar
from curate.models.training.augment import FILL, Augmentation
from curate.models.training.base import PRETRAINED, SCRATCH, Example, TrainingSettings
from curate.models.training.exporting import export_module
from curate.models.training.segment.choices import class_weights, input_size, look_at, settle_segmentation
from curate.models.training.segment.counts import METRIC, Counts, metrics
from curate.models.training.segment.losses import parse_loss, segmentation_loss
from curate.models.training.segment.network import Network, make_network
from curate.models.training.segment.regions import draw, nearest, require_fitting
from curate.models.training.segment.views import fit_channels, random_window
from curate.runner import Placement

IMAGES: Final = "images"
LOGITS: Final = "logits"
"""Names of the exported network's input and output."""

_MODEL: Final = "model.onnx"
_WINDOWS: Final = 0.5
_BACKBONE_RATE: Final = 0.2
_FROZEN_MOST: Final = 2 / 3


def create(
    settings: TrainingSettings, classes: tuple[str, ...], examples: Sequence[Example], say: Callable[[str], None]
) -> Segmenter:
    """Make a learner; see `curate.models.training.base.CreateLearner`.

    Raises:
        UsageError: There is nothing to learn, or a setting makes no sense.
        InputError: A mask does not fit its image, or weights or a recipe cannot be read.
        UnavailableError: Pretrained weights that cannot be had.
        MissingExtra: segmentation_models_pytorch is not installed.
    """
    import torch

    for example in examples:
        require_fitting(example)
    look = look_at(examples, len(classes), settings.seed)
    if look.empty:
        say(f"{look.empty:,} regions or more enclose nothing and are not learnt from ('curate mistakes' lists them)")
    settings = settle_segmentation(settings, look, len(examples), say)
    options = dict(settings.options or {})
    parts = parse_loss(options["loss"])
    augmentation = Augmentation.of(
        0.0 if settings.augment is None else settings.augment, flips=options["flips"], mask_fill=VOID
    )
    background = options["background"] == "yes"
    size = input_size(settings.image_size or 0, look.ratio)
    network = make_network(str(settings.model), len(classes) + background, size, settings.weights, say)
    settings = replace(settings, weights=network.weights)
    # Convolutions on CPUs and on GPUs with tensor cores take a fifth less time so.
    network.module.to(memory_format=torch.channels_last)
    _freeze(network, str(settings.freeze))
    share = np.r_[look.unlabelled, look.share * (1 - look.unlabelled)] if background else look.share
    return Segmenter(
        settings,
        classes,
        network.module,
        _sidecar(network, size, classes, settings, background),
        augmentation,
        class_weights(share, options["class_weights"]),
        parts,
        _BACKBONE_RATE if network.trained else 1.0,
    )


@dataclass
class Segmenter:
    """A network that learns a class for each pixel.

    Attributes:
        settings: With nothing left open.
        classes: Names, without the background.
        module: Normalised images of shape (n, 3, height, width) to logits of shape (n, channels, height, width).
        sidecar: How images become its input, and its output a class map.
        augmentation: What is changed at random.
        weights: What a pixel of each channel counts; float64 of shape (channels,).
        parts: Of the loss.
        backbone_rate: What the learning rate of the encoder is multiplied by.
    """

    settings: TrainingSettings
    classes: tuple[str, ...]
    module: Any
    sidecar: Sidecar
    augmentation: Augmentation
    weights: npt.NDArray[np.float64]
    parts: tuple[str, ...]
    backbone_rate: float
    metric: str = METRIC

    def __post_init__(self) -> None:
        # Pixels as they are, a quarter of the size: they are normalised where the network is.
        whole = {"scale": 1.0, "mean": None, "std": None, "layout": "nhwc"}
        self._preparation: Preparation = make_preparation(_changed(self.sidecar, whole), np.uint8)
        assert isinstance(self.sidecar.output, ClassMapLayout)
        assert isinstance(self.sidecar.size, tuple)
        self._layout, self._size = self.sidecar.output, self.sidecar.size

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder and the rest, each with weights that decay and biases and scales that do not."""
        encoder = {id(weight) for weight in self.module.encoder.parameters()}
        rate = self.settings.learning_rate or 0.0
        groups = []
        for of_encoder in (True, False):
            for decays in (True, False):
                chosen = [
                    weight
                    for weight in self.module.parameters()
                    if weight.requires_grad and (id(weight) in encoder) == of_encoder and (weight.ndim > 1) == decays
                ]
                if chosen:
                    groups.append(
                        {
                            "params": chosen,
                            "lr": rate * (self.backbone_rate if of_encoder else 1.0),
                            "weight_decay": self.settings.weight_decay if decays else 0.0,
                        }
                    )
        return groups

    def sample(self, example: Example, pixels: Pixels, rng: np.random.Generator | None) -> dict[str, Any]:
        """The image as the network sees it, uint8 of shape (height, width, 3), and in training its map of channels."""
        import torch

        if rng is None:
            prepared = self._preparation(pixels)
            # Copied, as pixels may not be written to, which torch wants.
            image = torch.from_numpy(prepared.array.copy())
            return {"image": image, "placement": prepared.placement, "example": example}
        # At the size of the pixels, which may have been decoded smaller: what is lost by that the network would not see.
        channels = nearest(draw(example, background=self._layout.background), (pixels.shape[0], pixels.shape[1]))
        changes = self.augmentation
        if changes.recipe is None and changes.strength and rng.random() < _WINDOWS:
            window = random_window(channels, self.weights, rng)
            pixels, channels = window.cut(pixels), window.cut(channels)
        image, targets = self._fitted(pixels, channels)
        changed = changes(image, rng, masks=[targets])
        image, targets = self._fitted(changed.pixels, changed.masks[0])
        return {"image": torch.from_numpy(image.copy()), "targets": torch.from_numpy(targets)}

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Tensors stacked, everything else in tuples."""
        import torch

        return {
            name: torch.stack([each[name] for each in samples])
            if isinstance(value, torch.Tensor)
            else tuple(each[name] for each in samples)
            for name, value in samples[0].items()
        }

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """The loss of a batch, and its parts."""
        import torch

        logits = self._logits(batch["image"])
        weights = torch.tensor(self.weights, dtype=torch.float32, device=logits.device)
        total, parts = segmentation_loss(self.parts, logits, batch["targets"], weights)
        return total, parts if len(parts) > 1 else {}

    def predict(self, batch: Any) -> list[Counts]:
        """How the class map of each image, as an `onnx:` predictor gives it, compares with its regions at full size."""
        logits = self._logits(batch["image"]).float().cpu().numpy()
        found = []
        for scores, placement, example in zip(logits, batch["placement"], batch["example"], strict=True):
            truth = draw(example, background=self._layout.background)
            said = read_class_map(self._layout, {LOGITS: scores}, placement).labels
            if self._layout.background:
                said = said + np.int16(1)  # void becomes channel 0
            found.append(Counts.of(nearest(said, truth.shape), truth, len(scores)))
        return found

    def score(self, predictions: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Mean IoU and Dice over the classes that are there, and those of each class."""
        return metrics(predictions, self.classes, background=self._layout.background)

    def export(self, folder: Path) -> Path:
        """Write `model.onnx` and `model.curate.json`, compared with torch."""
        path = folder / _MODEL
        export_module(self.module, _example_images(self._size), path, outputs=[LOGITS])
        write_sidecar(path, self.sidecar)
        return path

    def _fitted(self, pixels: Pixels, channels: npt.NDArray[np.int16]) -> tuple[Pixels, npt.NDArray[np.int16]]:
        """Both at the network's size."""
        prepared = self._preparation(pixels)
        placement: Placement = prepared.placement
        return np.ascontiguousarray(prepared.array), fit_channels(channels, placement)

    def _logits(self, images: Any) -> Any:
        """Of uint8 images of shape (n, height, width, 3)."""
        import torch

        mean, std = (
            255 * torch.tensor(each, device=images.device).reshape(1, 3, 1, 1)
            for each in (self.sidecar.mean, self.sidecar.std)
        )
        return self.module((images.permute(0, 3, 1, 2).float() - mean) / std)


def _sidecar(
    network: Network, size: Size, classes: tuple[str, ...], settings: TrainingSettings, background: bool
) -> Sidecar:
    weights = network.weights if network.weights in (PRETRAINED, SCRATCH) else Path(network.weights).name
    return Sidecar(
        task="segment",
        classes=classes,
        input=IMAGES,
        size=size,
        resize="squash" if dict(settings.options or {})["resize"] == "squash" else "letterbox",
        pad=FILL,
        color="rgb",
        layout="nchw",
        scale=1 / 255,
        mean=network.mean,
        std=network.std,
        output=ClassMapLayout(output=LOGITS, background=background, activation="softmax"),
        about={"model": str(settings.model), "began_with": weights},
    )


def _changed(sidecar: Sidecar, values: dict[str, Any]) -> Sidecar:
    import msgspec

    return msgspec.structs.replace(sidecar, **values)


def _freeze(network: Network, how: str) -> None:
    """Let the encoder's weights be: all of them, or ('most') those of its first two thirds.

    Raises:
        UsageError: They have learnt nothing yet.
    """
    if how != "nothing" and not network.trained:
        raise UsageError(
            "weights that have learnt nothing cannot be frozen",
            where="--freeze",
            remedy=f"--weights {PRETRAINED} or a file",
        )
    weights = list(network.module.encoder.parameters())
    count = {"backbone": len(weights), "most": round(_FROZEN_MOST * len(weights)), "nothing": 0}[how]
    for weight in weights[:count]:
        weight.requires_grad_(False)


def _example_images(size: Size) -> npt.NDArray[np.float32]:
    """Noise, and noise of larger grain, to try the network with; shape (3, 3, height, width)."""
    random = np.random.default_rng(0)
    rows, columns = (np.arange(side) * 8 // side for side in size)
    coarse = random.normal(size=(2, 3, 8, 8))[:, :, rows][:, :, :, columns]
    return np.concatenate([random.normal(size=(1, 3, *size)), coarse]).astype(np.float32)
