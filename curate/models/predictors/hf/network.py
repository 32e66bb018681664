"""A model of transformers that is loaded and runs: float32, the same numbers on every run, nothing from the network.

Each image is prepared alone, and only images whose inputs have the same shape go through the model together. So nothing is
ever padded to the size of another image, which would change what a model says of it (and where it says it, in models that
take no mask of the padding).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from curate.errors import CurateError, ImageError, InputError, MissingExtra, UnavailableError
from curate.imaging import Pixels
from curate.models.encoders.hub import first_line, hub
from curate.models.predictors.base import Size
from curate.models.predictors.hf.snapshots import CONFIG, IMAGE_SETTINGS, Snapshot, forbid_telemetry

_PACKAGES: Final = ("torch", "torchvision", "transformers", "safetensors")
# Of one call. On a CPU what is between two layers should fit into its caches: RT-DETR-R18 at 640 x 640 takes 0.55 s for an image
# alone, and 0.72 s for each of four.
_MOST_PIXELS: Final = {"cpu": 1 << 18, "cuda": 32 << 20}
_ONLY_TO_TRAIN: Final = "criterion."  # the loss


@dataclass(frozen=True)
class Prepared:
    """One image as a model takes it.

    Attributes:
        inputs: Tensors by name, of one row each; a model that looks at parts of an image has a row for each of them.
        size: Of the image that was given.
    """

    inputs: Mapping[str, Any]
    size: Size


@dataclass(frozen=True)
class Network:
    """A model with what belongs to it.

    Attributes:
        snapshot: Where it came from.
        config: Of transformers.
        model: A torch module in eval mode, on `device`.
        processor: Makes its inputs of images (and of texts, where it takes some).
        device: 'cpu' or 'cuda'.
        beside: What it takes beside the image, the same for all images: tensors by name.
    """

    snapshot: Snapshot
    config: Any
    model: Any
    processor: Any
    device: str
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_processor(self) -> Any:
        """The part of the processor that is for images."""
        return getattr(self.processor, "image_processor", self.processor)

    @property
    def input_size(self) -> int | None:
        """Pixels on the shorter side that the model sees, about; None where it takes images as they are."""
        size = getattr(self.image_processor, "size", None)
        if size is None or getattr(self.image_processor, "do_resize", True) is False:
            return None
        sides = [size[key] for key in ("shortest_edge", "height", "width", "longest_edge") if size.get(key)]
        sides = sides[:1] if size.get("shortest_edge") else sides
        return int(min(sides)) if sides else None

    def post_process(self, name: str) -> Callable[..., Any]:
        """A function of the image processor that says what outputs mean.

        Raises:
            InputError: It has none of that name.
        """
        function: Callable[..., Any] | None = getattr(self.image_processor, name, None)
        if function is None:
            raise InputError(
                f"the image processor ({type(self.image_processor).__name__}) is not one for such a model",
                where=self.snapshot.folder / IMAGE_SETTINGS,
                remedy="take that file from where the model came from",
            )
        return function

    def prepare(self, pixels: Pixels) -> Prepared:
        """One image (uint8 of shape (height, width, 3), RGB) to the model's inputs. May be called from several threads.

        Raises:
            ImageError: The image processor cannot scale it as the model needs: it is one pixel high, say, and very wide.
        """
        with preparing(pixels):
            # A copy: what a file was decoded to may not be written to, and torch wants that it may.
            inputs = self.image_processor(
                images=np.array(pixels), input_data_format="channels_last", return_tensors="pt"
            )
        return Prepared(dict(inputs), (pixels.shape[0], pixels.shape[1]))

    def outputs(self, prepared: Sequence[Prepared]) -> Iterator[tuple[int, Any]]:
        """Run the model; yields (place, what it says of the image at that place), the outputs being those of one row."""
        for places in _alike(prepared, _MOST_PIXELS[self.device]):
            rows = [prepared[place].inputs for place in places]
            with exact():
                said = self.model(**self._together(rows))
            if len(places) == 1:  # of an image in parts, all its rows
                yield places[0], SimpleNamespace(**_fields(said))
                continue
            for row, place in enumerate(places):
                yield place, _row(said, row, len(places))

    def _together(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        batch = {
            name: torch.cat([row[name] for row in rows]).to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in rows[0].items()
        }
        repeated = {name: value.to(self.device).repeat(len(rows), 1) for name, value in self.beside.items()}
        return batch | repeated


@contextmanager
def preparing(pixels: Pixels) -> Iterator[None]:
    """Errors of an image processor become an `ImageError` that says which size of image it was."""
    try:
        yield
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        height, width = pixels.shape[:2]
        raise ImageError(f"the model cannot take an image of {width} x {height} pixels: {first_line(error)}") from error


@contextmanager
def exact() -> Iterator[None]:
    """No gradients, and arithmetic in float32 that is the same on every run (TF32 has 10 bits where float32 has 23)."""
    import torch

    convolutions = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), convolutions:
        yield


def load_network(
    snapshot: Snapshot, auto: str, *, processor: str = "AutoImageProcessor", settings: Mapping[str, Any] | None = None
) -> Network:
    """Load a model and its processor from a folder.

    Args:
        snapshot: Where it is.
        auto: The class of transformers that loads the model.
        processor: The same for the processor.
        settings: Of the processor, that are not as the folder has them.

    Raises:
        InputError: Files are missing, broken, or not what the model needs.
        UnavailableError: The model needs a package that is not installed.
    """
    from_folder = {"local_files_only": True, "trust_remote_code": False}
    with quiet(snapshot) as transformers:
        config = transformers.AutoConfig.from_pretrained(snapshot.folder, **from_folder)
        model, report = getattr(transformers, auto).from_pretrained(
            snapshot.folder,
            config=config,
            dtype="float32",
            use_safetensors=True,
            output_loading_info=True,
            **from_folder,
        )
        _require_all_weights(snapshot, report)
        made = getattr(transformers, processor).from_pretrained(snapshot.folder, **from_folder, **(settings or {}))
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Network(snapshot, config, model.eval().to(device), made, device)


def require_packages() -> None:
    """Check that transformers and what it needs for images are there, without importing them.

    Raises:
        MissingExtra: One is not.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "hf")


@contextmanager
def quiet(snapshot: Snapshot) -> Iterator[Any]:
    """Transformers, without network, reports to its maker, progress bars, and warnings; its errors become ours."""
    forbid_telemetry()
    with hub(online=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import transformers

            transformers.utils.logging.disable_progress_bar()
            transformers.utils.logging.set_verbosity_error()
            yield transformers
        except CurateError:
            raise
        except ImportError as error:
            raise UnavailableError(
                f"the model needs a package that is not installed: {first_line(error)}",
                where=snapshot.source,
                remedy="install it beside curate",
            ) from error
        except Exception as error:  # transformers, tokenizers and safetensors each raise their own
            raise InputError(
                f"the model cannot be loaded: {first_line(error)}",
                where=snapshot.folder,
                remedy="check that the folder is whole, and was written by a version of transformers that is not newer",
            ) from error


def _require_all_weights(snapshot: Snapshot, report: Mapping[str, Any]) -> None:
    """Refuse weights that lack some: transformers would make them up at random."""
    missing = [key for key in report["missing_keys"] if not str(key).startswith(_ONLY_TO_TRAIN)]
    wrong = sorted(map(str, [*missing, *(key for key, *_ in report["mismatched_keys"])]))
    if wrong:
        raise InputError(
            f"the weights are not those of the model: {len(wrong)} are missing or of another shape, first '{wrong[0]}'",
            where=snapshot.folder,
            remedy=f"check that {CONFIG} belongs to them, and that the model was trained for what is asked of it",
        )


def _alike(prepared: Sequence[Prepared], most_pixels: int) -> Iterator[list[int]]:
    """Places of images that may go through the model together: inputs of the same names and shapes, of one row each."""
    groups: dict[Any, list[int]] = {}
    for place, each in enumerate(prepared):
        groups.setdefault(_shape(each) or place, []).append(place)
    for places in groups.values():
        height, width = prepared[places[0]].inputs["pixel_values"].shape[-2:]
        step = max(1, most_pixels // (height * width))
        for at in range(0, len(places), step):
            yield places[at : at + step]


def _shape(prepared: Prepared) -> tuple[Any, ...] | None:
    """What must be equal for images to go together; None for one that must go alone."""
    import torch

    values = prepared.inputs.values()
    if not all(isinstance(value, torch.Tensor) and value.shape[0] == 1 for value in values):
        return None
    return tuple((name, value.shape) for name, value in prepared.inputs.items())


def _fields(said: Any) -> dict[str, Any]:
    """All that an output may have, by name; None for what it has not."""
    return {name: getattr(said, name) for name in said.__dataclass_fields__}


def _row(said: Any, row: int, count: int) -> Any:
    """The part of a batch's outputs that is one image's."""
    import torch

    def part(value: Any) -> Any:
        is_rows = isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == count
        return value[row : row + 1] if is_rows else value

    return SimpleNamespace(**{name: part(value) for name, value in _fields(said).items()})
