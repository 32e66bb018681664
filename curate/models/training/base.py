"""What kinds of training share: what is asked for, what one image brings, and what a learner has to know.

The trainer (`curate.models.training.trainer`) knows loops, seeds, checkpoints, progress and logs; a learner knows its network,
its loss and what its results mean. There is one learner for each task: `classify`, `detect`, `segment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels
from curate.models.passes import Progress

Task = Literal["classify", "detect", "segment"]
Freeze = Literal["backbone", "most", "nothing"]
"""Which weights stay as they are: the backbone's (only the head learns), all but its last blocks', none."""

PRETRAINED = "pretrained"
SCRATCH = "scratch"


@dataclass(frozen=True)
class TrainingSettings:
    """What a person may ask for. None: chosen by the task, the number of images and the device, and then recorded.

    Attributes:
        task: What is learnt.
        model: Architecture, as the task's library names it ('mobilenetv4_conv_small', 'unet/mobilenet_v2', 'ssdlite320').
        weights: 'pretrained' (the library's, from disk or hub), 'scratch', or a local safetensors file.
        freeze: Which weights do not change.
        image_size: Shorter side, pixels, that the network sees.
        epochs: Most passes over the data; fewer where it stops early.
        steps: So many steps in place of epochs, the last pass over the data cut short: the same work whatever the number of
            images. It may still stop early.
        batch_size: Images of a step.
        learning_rate: Highest, of the head; the backbone's is a tenth or a fifth of it where it starts from trained weights.
        weight_decay: Of AdamW.
        patience: Epochs without a better validation metric before it stops.
        augment: Strength of random changes of the training images, 0 to 1; or path of a recipe.
        seed: Of everything random.
        device: 'cpu', 'cuda', 'cuda:1'.
        amp: Whether half precision is used where it is safe.
        workers: Threads that decode and augment; 0 for none beside the trainer's.
        minutes: Stop after so many; the learning rate falls to nothing by then.
        clip_norm: A gradient that is longer than this is shortened to it.
        average: Decay of a running average of the weights, which is then what is validated and kept (0.999, say); None for
            none.
        options: What only one task knows ('mixup', 'cutmix', 'loss').
    """

    task: Task
    model: str | None = None
    weights: str | None = None
    freeze: Freeze | None = None
    image_size: int | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 0.05
    patience: int | None = None
    augment: float | str | None = None
    seed: int = 0
    device: str | None = None
    amp: bool | None = None
    workers: int | None = None
    minutes: float | None = None
    clip_norm: float = 1.0
    average: float | None = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Example:
    """One image with what is known of it. Coordinates are pixels of the full-size image after EXIF orientation.

    Attributes:
        image_id: Of the dataset.
        path: The file.
        size: (height, width); None where unknown until it is read.
        label: Number of the image's class (classify); None otherwise.
        boxes: [x, y, width, height]; float64 of shape (k, 4) (detect).
        labels: Classes of the boxes or regions; int64 of shape (k,).
        crowd: Which of them stand for many objects; bool of shape (k,).
        regions: Of each region its polygons or its RLE, as pycocotools takes them (segment).
    """

    image_id: str
    path: str
    size: tuple[int, int] | None
    label: int | None = None
    boxes: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    crowd: npt.NDArray[np.bool_] | None = None
    regions: Sequence[Any] | None = None


class Learner(Protocol):
    """A network that learns one task. `module` and tensors are torch's; torch is imported where a learner is made.

    The trainer moves the module and the batches to the device, seeds torch before every step, calls `loss` and `predict`
    under autocast where half precision is wanted, and leaves parts of the module whose weights are all frozen in eval mode.
    """

    settings: TrainingSettings
    """With nothing left open that the task uses: model, weights, freeze, image_size, epochs, batch_size, learning_rate,
    patience, augment. `device`, `amp` and `workers` are settled before a learner is made."""

    classes: tuple[str, ...]
    module: Any
    """torch.nn.Module; its state_dict is all that a checkpoint keeps of the network."""

    metric: str
    """Which of the validation numbers says how good it is; higher is better."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser changes: params, lr, weight_decay."""

    def sample(self, example: Example, pixels: Pixels, rng: np.random.Generator | None) -> Any:
        """One image and its targets as tensors, changed at random where `rng` is given.

        Runs in threads, so it changes nothing and takes all that is random from `rng`. `example.size` is known here; the
        pixels may have been decoded at a lower scale than that, of at least twice `settings.image_size`.
        """

    def collate(self, samples: Sequence[Any]) -> Any:
        """A batch of samples: tensors, and tuples, lists and dictionaries of them and of anything else."""

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """The loss of a batch (a scalar tensor with a gradient), and its parts as numbers. `rng` mixes images, say."""

    def predict(self, batch: Any) -> list[Any]:
        """What the network says of each sample of a batch, in the task's own form (kept small: all of them are held for
        `score`). Called without gradients, module in eval.
        """

    def score(self, predictions: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Validation numbers, the `metric` among them."""

    def export(self, folder: Path) -> Path:
        """Write `model.onnx` and its sidecar `model.curate.json` into a folder, as `onnx:` predictors read them.

        Called with the best weights, module in eval on the CPU. Compares what the file gives with what torch gives, and raises
        an error where they differ.
        """


@runtime_checkable
class Precomputing(Protocol):
    """A learner that can do without the pixels after a first look at them: frozen features, nothing random before them."""

    def precompute(self, examples: Sequence[Example], folder: Path, progress: Progress | None) -> dict[str, Any] | None:
        """Samples by image_id, for `collate`, made once; None where the pixels are needed every time.

        Args:
            examples: Of training and validation. What is not in the result cannot be read, and is left out.
            folder: For what should outlast a killed run.
            progress: Told (images done, images to do).
        """


CreateLearner = Callable[[TrainingSettings, tuple[str, ...], Sequence[Example], Callable[[str], None]], Learner]
"""Makes a learner of settings that may be open, the names of the classes, the examples that it will be trained on (for
what depends on their number, sizes and classes), and a function that tells the user what was chosen and why. torch is seeded
before it is called. One for each task: `curate.models.training.registry`."""
