"""CLIP image encoders through open_clip (Radford et al., ICML 2021; Cherti et al., CVPR 2023).

Weights come from a local file or folder, or by tag from the Hugging Face hub. Left alone, open_clip retries an unreachable
hub for 46 s; here the hub is looked for once, for a second, and only when the weights are not on this disk.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.weights import weights_digest

DEFAULT_MODEL: Final = "ViT-B-32/laion2b_s34b_b79k"
_DEFAULT_REPOSITORY: Final = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"

_WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".pt", ".pth", ".bin"})
_CONNECT_SECONDS: Final = 1.0
_SYNTAX: Final = "write clip:MODEL/TAG, clip:MODEL//path/to/weights.safetensors or clip:/folder"

# As the user set it: `_hub` changes the variable.
_USER_OFFLINE: Final = os.environ.get("HF_HUB_OFFLINE", "0").strip().upper() in {"1", "ON", "YES", "TRUE"}


def load(argument: str) -> Encoder:
    """Load an open_clip model.

    Args:
        argument: 'MODEL/TAG' (weights by tag), 'MODEL/PATH' (weights in a local file), the path of a folder with
            open_clip_config.json and weights, 'hf-hub:OWNER/NAME', or '' for `DEFAULT_MODEL`.

    Raises:
        UsageError: No such model or tag.
        InputError: The local weights cannot be read or are not this model's.
        UnavailableError: The weights are not on this disk and the hub cannot be reached.
        MissingExtra: open_clip is not installed.
    """
    source = _parse(argument or DEFAULT_MODEL)
    if not is_installed():
        raise MissingExtra("open_clip_torch", "clip")
    if source.weights is None:
        return ClipEncoder(f"clip:{source.spec}", _from_hub(source))
    return ClipEncoder(f"clip:{source.spec}@{weights_digest(source.weights)}", _from_disk(source))


def is_installed() -> bool:
    """Whether open_clip and torch are there, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in ("torch", "open_clip"))


def default_is_on_disk() -> bool:
    """Whether the default model's weights are in the hub's cache."""
    folder = f"models--{_DEFAULT_REPOSITORY.replace('/', '--')}"
    return any(path.exists() for path in _hub_cache().glob(f"{folder}/snapshots/*/open_clip_*"))


class ClipEncoder:
    """An open_clip model's image side; see `curate.models.encoders.base.Encoder`.

    The whole image is squashed to the model's square instead of cutting out the centre: what is annotated is often long
    and thin, or off-centre.
    """

    def __init__(self, name: str, model: Any) -> None:
        import open_clip
        import torch

        self.name = name
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self._device)
        config = open_clip.get_model_preprocess_cfg(model)
        size = config["size"]
        self.input_size = int(size if isinstance(size, int) else max(size))
        shape = (1, 3, 1, 1)
        self._mean = 255 * torch.tensor(config["mean"], device=self._device).reshape(shape)
        self._std = 255 * torch.tensor(config["std"], device=self._device).reshape(shape)
        self.dimensions = self.encode([np.zeros((self.input_size, self.input_size, 3), np.uint8)]).shape[1]

    def prepare(self, pixels: Pixels) -> Pixels:
        """Squash to the model's square input; uint8 of shape (input_size, input_size, 3)."""
        return resize(pixels, (self.input_size, self.input_size))

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        """Embed prepared images; float32 of shape (n, dimensions), rows of unit length."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(np.stack(prepared)).to(self._device).permute(0, 3, 1, 2).float()
            vectors = self._model.encode_image((images - self._mean) / self._std, normalize=True)
            return np.asarray(vectors.float().cpu().numpy())


@dataclass(frozen=True)
class _Source:
    """What a spec asks for: an open_clip model name, and its weights by tag or as a file."""

    spec: str
    model: str
    pretrained: str | None
    weights: Path | None


def _parse(spec: str) -> _Source:
    folder = Path(spec.removeprefix("local-dir:")).expanduser()
    if spec.startswith("local-dir:") or folder.is_dir():
        return _Source(spec, f"local-dir:{folder}", None, _weights_in(folder))
    if spec.startswith("hf-hub:"):
        return _Source(spec, spec, None, None)
    model, _, rest = spec.partition("/")
    if not model or not rest:
        raise UsageError(f"'{spec}' does not say which CLIP weights", remedy=_SYNTAX)
    path = Path(rest).expanduser()
    if path.suffix not in _WEIGHT_SUFFIXES:
        return _Source(spec, model, rest, None)
    if not path.is_file():
        raise InputError("the weights file is not there", where=path, remedy=_SYNTAX)
    return _Source(spec, model, str(path), path)


def _weights_in(folder: Path) -> Path:
    files = sorted(path for path in folder.glob("*") if path.suffix in _WEIGHT_SUFFIXES)
    if not files or not (folder / "open_clip_config.json").is_file():
        raise InputError(
            "the folder has no open_clip_config.json with weights beside it",
            where=folder,
            remedy="name a folder that open_clip saved, or write clip:MODEL//path/to/weights.safetensors",
        )
    return files[0]


def _from_disk(source: _Source) -> Any:
    with _hub(online=False):
        try:
            return _create(source)
        except UsageError:
            raise
        except Exception as error:  # torch, safetensors and open_clip each raise their own
            raise InputError(
                f"the CLIP weights cannot be loaded: {_first_line(error)}",
                where=source.weights,
                remedy=f"check that they are of the model '{source.model}'",
            ) from error


def _from_hub(source: _Source) -> Any:
    cached = any(_hub_cache().glob("models--*/snapshots/*/*"))
    if cached:
        with _hub(online=False):
            try:
                return _create(source)
            except (RuntimeError, OSError):
                pass  # other weights are in the cache, not these
    if _USER_OFFLINE or not _reachable():
        raise UnavailableError(
            f"the CLIP weights '{source.spec}' are not on this disk and "
            + ("HF_HUB_OFFLINE forbids fetching them" if _USER_OFFLINE else f"{_hub_host()[0]} cannot be reached"),
            remedy="use --encoder builtin; or load them once where there is a network and copy the cache folder "
            f"{_hub_cache()}; or write clip:MODEL//path/to/weights.safetensors",
        )
    with _hub(online=True):
        try:
            return _create(source)
        except (RuntimeError, OSError) as error:
            raise UnavailableError(
                f"the CLIP weights '{source.spec}' could not be fetched: {_first_line(error)}",
                remedy="try again, or use --encoder builtin",
            ) from error


def _create(source: _Source) -> Any:
    """Make the model. Import happens here, after `_hub` has said whether the network may be used."""
    import open_clip

    if ":" not in source.model:
        if source.model not in open_clip.list_models():
            raise UsageError(f"open_clip has no model named '{source.model}'", remedy="open_clip.list_models()")
        tags = open_clip.list_pretrained_tags_by_model(source.model)
        if source.weights is None and source.pretrained not in tags:
            raise UsageError(
                f"there are no weights '{source.pretrained}' of {source.model}", remedy=f"one of: {', '.join(tags)}"
            )
    return open_clip.create_model(source.model, pretrained=source.pretrained, require_pretrained=True)


@contextmanager
def _hub(*, online: bool) -> Iterator[None]:
    """Allow or forbid the hub client to use the network, whether or not it is imported yet; open_clip's log is off.

    The client reads HF_HUB_OFFLINE once, at import, into a constant that every request looks at.
    """
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = not online  # type: ignore[attr-defined]
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)


def _reachable() -> bool:
    """Whether the hub (or the proxy to it) takes a connection. In a thread, for name look-ups know no time limit."""
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(_hub_host(), timeout=_CONNECT_SECONDS).close()
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return answered.is_set()


def _hub_host() -> tuple[str, int]:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = urllib.parse.urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy is not None and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _hub_cache() -> Path:
    """Where the hub client keeps what it fetched; its own rules."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = os.environ.get("HF_HOME") or default
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
