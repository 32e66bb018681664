"""Where a model's files are: a folder on this disk, or a snapshot of a repository of the Hugging Face hub.

A repository is looked for in the hub's cache on this disk first, and in one that holds the model nothing newer is asked for.
Only files that hold numbers or settings are fetched: no pickle, and no code.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders.hub import first_line, hub, hub_cache, require_hub
from curate.models.encoders.weights import NAME_DIGITS, located, weights_key

CONFIG: Final = "config.json"
IMAGE_SETTINGS: Final = "preprocessor_config.json"
PROCESSOR_SETTINGS: Final = "processor_config.json"
WEIGHTS: Final = "model.safetensors"

_INDEX: Final = "model.safetensors.index.json"
_SETTINGS: Final = (
    CONFIG,
    IMAGE_SETTINGS,
    PROCESSOR_SETTINGS,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
_SHARDS: Final = "model-*-of-*.safetensors"
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_REPOSITORY: Final = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MAIN: Final = "main"


@dataclass(frozen=True)
class Snapshot:
    """The files of one version of a model.

    Attributes:
        folder: Where they are.
        source: How a spec names it: the folder from the root, or 'org/name'.
        version: Tells these files from all others: a digest of them, or the commit of the repository.
    """

    folder: Path
    source: str
    version: str

    def read(self, name: str) -> dict[str, Any]:
        """What one of the JSON files says; nothing if it is not there.

        Raises:
            InputError: It is no JSON object.
        """
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            content = msgspec.json.decode(path.read_bytes())
        except (msgspec.DecodeError, OSError) as error:
            raise InputError(
                f"the file cannot be read: {first_line(error)}", where=path, remedy="fetch it again"
            ) from error
        if not isinstance(content, dict):
            raise InputError("the file is not a JSON object", where=path, remedy="fetch it again")
        return content


def find_snapshot(spec: str) -> Snapshot:
    """Find a model's files; fetches them from the hub if they are not on this disk.

    Args:
        spec: A folder, 'org/name', or 'org/name@revision' (a branch, tag or commit).

    Raises:
        UsageError: It is neither.
        InputError: The folder is not there, lacks files, or has the weights as a pickle only.
        UnavailableError: The repository is not on this disk and cannot be fetched; `MissingExtra` if the hub's client is not
            installed.
    """
    folder = located(spec)
    if folder.is_dir():
        return _local(folder)
    match = _REPOSITORY.fullmatch(spec)
    if spec.startswith((".", "~", "/")) or Path(spec).is_absolute():
        raise InputError("the folder is not there", where=folder, remedy="name a folder that save_pretrained wrote")
    if match is None:
        raise UsageError(
            f"'{spec}' is neither a folder nor a repository of the hub",
            remedy="write hf:FOLDER, hf:ORG/NAME or hf:ORG/NAME@REVISION",
        )
    return _from_hub(match["repository"], match["revision"] or _MAIN)


def _local(folder: Path) -> Snapshot:
    lacking = _lacking(folder)
    if lacking:
        raise InputError(f"the folder lacks {lacking}", where=folder, remedy=_remedy(folder))
    settings = (folder / name for name in (*_SETTINGS, _INDEX))
    key = weights_key(*_weights(folder), *(path for path in settings if path.is_file()), named=True)
    return Snapshot(folder, str(folder), key[:NAME_DIGITS])


def _from_hub(repository: str, revision: str) -> Snapshot:
    folder = _cached(repository, revision)
    lacking = None if folder is None else _lacking(folder)
    if folder is None or lacking:
        what = _called(repository, revision) + (f" ({lacking})" if lacking else "")
        require_hub(what, remedy=_elsewhere(repository, revision))
        folder = _fetch(repository, revision)
    return Snapshot(folder, repository, folder.name)


def _cached(repository: str, revision: str) -> Path | None:
    """The snapshot in the hub's cache, if there is one, whole or not."""
    root = hub_cache() / f"models--{repository.replace('/', '--')}"
    reference = root / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = root / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def _fetch(repository: str, revision: str) -> Path:
    """Bring a snapshot into the hub's cache."""
    forbid_telemetry()
    with hub(online=True):
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.utils.tqdm import disable_progress_bars
        except ImportError as error:
            raise MissingExtra("huggingface_hub", "hf") from error
        disable_progress_bars()
        download = partial(snapshot_download, repository, revision=revision, cache_dir=hub_cache())
        try:
            folder = Path(download(allow_patterns=[*_SETTINGS, WEIGHTS, _INDEX, _SHARDS]))
        except (RuntimeError, OSError, ValueError) as error:
            raise UnavailableError(
                f"'{_called(repository, revision)}' could not be fetched: {first_line(error)}",
                remedy="check the name (there is no folder of that name either), and for a gated model that HF_TOKEN is set",
            ) from error
    lacking = _lacking(folder)
    if lacking:
        raise InputError(
            f"the repository '{_called(repository, revision)}' has no {lacking}",
            remedy="choose a model of transformers with safetensors weights",
        )
    return folder


def forbid_telemetry() -> None:
    """Keep the hub's client from reporting, whether or not it is imported yet."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]


def _weights(folder: Path) -> list[Path]:
    """The weights files that transformers will read, there or not; none if there is no list of them."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        names = msgspec.json.decode(index.read_bytes())["weight_map"].values()
        return sorted({folder / Path(name).name for name in names})
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError("the list of weights files cannot be read", where=index, remedy="fetch it again") from error


def _lacking(folder: Path) -> str | None:
    """The first thing that a folder lacks to be a model; None if it is whole."""
    if not (folder / CONFIG).is_file():
        return CONFIG
    weights = _weights(folder)
    if not weights:
        return WEIGHTS
    return next((path.name for path in weights if not path.is_file()), None)


def _remedy(folder: Path) -> str:
    if not _weights(folder) and any(path for pattern in _PICKLES for path in folder.glob(pattern)):
        return (
            "weights in a pickle can run any code, so they are not read: where their origin is trusted, load them with "
            "transformers and write the folder again with save_pretrained"
        )
    return "name a folder that save_pretrained wrote, or copy what is missing into it"


def _called(repository: str, revision: str) -> str:
    return repository if revision == _MAIN else f"{repository}@{revision}"


def _elsewhere(repository: str, revision: str) -> str:
    pinned = "" if revision == _MAIN else f" --revision {revision}"
    return (
        f"where there is a network run: hf download {repository}{pinned} --local-dir FOLDER; "
        "copy FOLDER here and write hf:FOLDER"
    )
