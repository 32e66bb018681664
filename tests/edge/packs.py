"""Package folders from ONNX files and sidecars, without the dataset that `curate package` measures them on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from curate import runner
from curate.edge.package.card import digest, manifest_text
from curate.edge.package.source import open_source, postprocessing, preprocessing


def pack(folder: Path, model: Path, **more: Any) -> Path:
    """A package of a model for onnxruntime; `more` goes into its manifest. Returns the folder."""
    source = open_source(f"onnx:{model}")
    folder.mkdir()
    shutil.copyfile(model, folder / "model.onnx")
    shutil.copyfile(runner.__file__, folder / "runner.py")
    manifest = {
        "format": runner.FORMAT,
        "name": model.stem,
        "version": "1.0.0",
        "target": "onnx",
        "task": source.predictor.task,
        "classes": list(source.predictor.classes),
        "model": {"file": "model.onnx"},
        "preprocess": preprocessing(source),
        "postprocess": postprocessing(source),
        "reference": None,
        **more,
    }
    named = list(folder.iterdir()) + ([folder / manifest["reference"]] if manifest["reference"] else [])
    manifest["files"] = {path.name: digest(path) for path in named if path.is_file()}
    (folder / runner.MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    return folder
