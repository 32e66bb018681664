"""Image networks of timm (Wightman, PyTorch Image Models), and `small`'s, with a head for one's own classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders.hub import first_line, from_hub, hub, hub_cache
from curate.models.encoders.weights import weights_digest
from curate.models.passes import Progress
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.sidecar import Logits, Sidecar
from curate.models.training.base import PRETRAINED, SCRATCH, Example, Freeze
from curate.models.training.classify import small
from curate.models.training.classify.features import FeaturePass, Features, compute_features
from curate.models.training.defaults import EXTRA
from curate.models.training.exporting import export_module

_OUTPUT: Final = "logits"
_TRAINED_PARTS: Final = 4
"""With 'most' frozen, the last of so many parts of the network learns, unless somebody says how many."""


class TimmNetwork:
    """See `curate.models.training.classify.learner.Network`.

    Args:
        name: As timm calls it, with the tag of its weights where those are pretrained.
        weights: 'pretrained', 'scratch', or a local safetensors file.
        classes: Names of what is learnt.
        freeze: Which weights stay as they are.
        image_size: Pixels of a side; None for what the network was made for.
        device: Where features are computed.
        last_parts: With 'most' frozen, how many of the network's last parts learn besides the head (of a ResNet, its stages);
            None for a quarter of them.

    Raises:
        UsageError: There is no such network, or not of this size.
        InputError: The file's weights are not this network's.
        UnavailableError: Weights that cannot be had; `MissingExtra` for timm.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        classes: Sequence[str],
        freeze: Freeze,
        image_size: int | None,
        device: str,
        last_parts: int | None = None,
    ) -> None:
        if importlib.util.find_spec("timm") is None:
            raise MissingExtra("timm", EXTRA)
        require_network(name)
        self._device = device
        self.module = _create(name, weights, len(classes), image_size)
        is_file = weights not in (PRETRAINED, SCRATCH)
        self._identity = f"{name}@{weights_digest(Path(weights).expanduser())}" if is_file else name
        self.head_parameters = list(self.module.get_classifier().parameters())
        self._is_backbone_frozen = freeze == "backbone"
        _freeze(self.module, freeze, last_parts)
        config = _config(self.module)
        height, width = (image_size, image_size) if image_size else config["input_size"][1:]
        self.size = (int(height), int(width))
        self.dtype = np.float32
        self.sidecar = Sidecar(
            task="classify", classes=tuple(classes), size=self.size, resize="squash", interpolation="bicubic", color="rgb",
            layout="nchw", scale=1 / 255, mean=tuple(config["mean"]), std=tuple(config["std"]),
            output=Logits(output=_OUTPUT), about={"network": f"timm:{name}"},
        )  # fmt: skip

    def logits(self, inputs: Any) -> Any:
        """Of images of shape (n, 3, height, width), or of features of shape (n, dimensions)."""
        return self.module.get_classifier()(inputs) if inputs.ndim == 2 else self.module(inputs)

    def features(
        self, examples: Sequence[Example], folder: Path, progress: Progress | None
    ) -> dict[str, Features] | None:
        """What the backbone sees, by image_id; None where some of it learns, or the head is more than a linear layer."""
        import torch

        if not self._is_backbone_frozen or not isinstance(self.module.get_classifier(), torch.nn.Linear):
            return None
        preparation = make_preparation(self.sidecar, self.dtype)
        name = f"{self._identity} {self.size}"
        network = FeaturePass(
            name, min(self.size), lambda pixels: preparation(pixels).array, self._run, self._dimensions
        )
        try:
            return compute_features(examples, network, folder, progress)
        finally:
            self.module.train()

    def write_graph(self, path: Path) -> None:
        """The network as an ONNX file, compared with torch."""
        preparation = make_preparation(self.sidecar, self.dtype)
        pixels = np.random.default_rng(0).integers(0, 256, (3, *self.size, 3), dtype=np.uint8)
        export_module(self.module, np.stack([preparation(each).array for each in pixels]), path, outputs=[_OUTPUT])

    @cached_property
    def _dimensions(self) -> int:
        return int(self.module.get_classifier().in_features)

    def _run(self, batch: Sequence[Any]) -> Features:
        import torch

        module = self.module.eval().to(self._device)
        with torch.inference_mode():
            images = torch.from_numpy(np.stack(batch)).to(self._device)
            found = module.forward_head(module.forward_features(images), pre_logits=True)
        return np.asarray(found.float().cpu().numpy())


def require_network(name: str) -> None:
    """Raise a `UsageError` unless timm has a network of this name."""
    with hub(online=False):
        timm = _library()
        if not timm.is_model(name):
            raise UsageError(
                f"timm has no network named '{name}'",
                where="--model",
                remedy=f"'builtin', {', '.join(small.default_cfgs)}, or one of timm.list_models()",
            )


def _library() -> Any:
    """timm, with curate's small networks among its own."""
    import timm

    small.register()
    return timm


def with_tag(name: str) -> str:
    """The name with the tag of the weights that this version of timm takes for it."""
    import timm

    tag = getattr(timm.get_pretrained_cfg(name), "tag", None)
    return f"{name}.{tag}" if tag and "." not in name else name


def are_weights_here(name: str) -> bool:
    """Whether the weights of a tag are in the hub's cache on this disk."""
    return any(hub_cache().glob(f"models--timm--{name}/snapshots/*/*"))


def input_side(name: str) -> int:
    """Pixels of the side that a network was made for."""
    config = _library().get_pretrained_cfg(name)
    return int(config.input_size[1]) if config is not None else 224


def _create(name: str, weights: str, classes: int, image_size: int | None) -> Any:
    import timm

    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    sizes = {"img_size": image_size} if fixed and image_size else {}
    if weights == PRETRAINED:
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        if not known:
            raise UsageError(
                f"timm has no weights for '{name}'", where="--weights", remedy="--weights scratch, or a file"
            )
        try:
            return from_hub(
                lambda: timm.create_model(name, pretrained=True, num_classes=classes, **sizes), name, local=""
            )
        except UnavailableError as error:
            raise UnavailableError(
                error.what,
                where=f"--model {name} --weights {PRETRAINED}",
                remedy="--model builtin needs none; or --weights scratch; or --weights FILE.safetensors; or load them once "
                f"where there is a network, and copy the cache folder {hub_cache()}",
            ) from error
    with hub(online=False):
        model = timm.create_model(name, pretrained=False, num_classes=classes, **sizes)
    if weights != SCRATCH:
        _load(model, name, Path(weights).expanduser())
    return model


def _load(model: Any, name: str, path: Path) -> None:
    """Put the weights of a file into a network; a head for other classes is left out.

    Raises:
        InputError: They cannot be read, or are not all that the network needs, or more.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(
            "the weights file is not there", where=path, remedy="'pretrained', 'scratch', or a safetensors file"
        )
    try:
        given = load_file(path)
    except Exception as error:  # safetensors' own
        raise InputError(
            f"the weights cannot be loaded: {first_line(error)}", where=path, remedy="they must be a safetensors file"
        ) from error
    own = model.state_dict()
    heads = model.pretrained_cfg.get("classifier") or ()
    head = tuple(f"{each}." for each in ([heads] if isinstance(heads, str) else heads))
    fits = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    wrong = [key for key in {**own, **given} if key not in fits and not key.startswith(head)]
    if wrong:
        raise InputError(
            f"the weights are not those of the network: {len(wrong)} do not fit, first '{wrong[0]}'",
            where=path,
            remedy=f"check that they are of the network '{name}'",
        )
    model.load_state_dict(fits, strict=False)


def _freeze(model: Any, freeze: Freeze, last_parts: int | None) -> None:
    """Freeze all but the head ('backbone'), or all but the head and the last of the network's parts ('most')."""
    if freeze == "nothing":
        return
    head = {id(weight) for weight in model.get_classifier().parameters()}
    last: set[str] = set()
    if freeze == "most":
        from timm.models import group_parameters

        part = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
        most = max(part.values())  # the head's
        learns = last_parts or max(1, most // _TRAINED_PARTS)
        last = {name for name, number in part.items() if number >= most - learns}
    for name, weight in model.named_parameters():
        weight.requires_grad_(id(weight) in head or name in last)


def _config(model: Any) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    found: dict[str, Any] = resolve_model_data_config(model)
    return found
