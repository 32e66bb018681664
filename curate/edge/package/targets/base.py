"""What writing a model for a runtime takes, and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.edge.package.source import Source


@dataclass(frozen=True)
class Request:
    """A model, and where it goes.

    Attributes:
        source: The model.
        folder: The package's, there already.
        python: A Python that has what the target needs and clashes with curate; None for none named.
        images: Paths of training images, for what looks at some.
    """

    source: Source
    folder: Path
    python: str | None = None
    images: Sequence[str] = ()


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        file: Name of the model's file.
        files: Names of all files.
        preprocess: What has become another in `preprocess` of the manifest.
        names: What outputs are called now, by what they are called in the ONNX file; those that are not here kept their names.
        backend: What runs the model here, where the target itself does not; None for the target's own.
        notes: For people.
    """

    file: str
    files: Sequence[str]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    backend: str | None = None
    notes: Sequence[str] = ()


Write = Callable[[Request], Written]
