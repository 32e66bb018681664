"""The files of a package that people and other programs read: the model card, labels, requirements, checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CARD: Final = "MODEL_CARD.md"
SUMS: Final = "SHA256SUMS"

_NEEDS: Final = {
    "onnx": ("onnxruntime>=1.20",),
    "openvino": ("openvino>=2025.0",),
    "tflite": ("ai-edge-litert>=2.0",),
    "tensorrt": ("onnxruntime-gpu>=1.20",),
}
_TASKS: Final = {
    "classify": "says which of its classes an image shows",
    "detect": "finds objects of its classes and draws boxes around them",
    "segment": "says for each pixel which of its classes it belongs to, if any",
}


def requirements(target: str) -> str:
    """What the runner needs on the device, for pip."""
    return "\n".join(("numpy>=1.24", "pillow>=10", *_NEEDS[target])) + "\n"


def model_card(manifest: Mapping[str, Any], intended_use: str) -> str:
    """A card for people: what the model is for, what it was made from, how good it is and where not."""
    model, metrics = manifest["model"], manifest["metrics"]
    lines = [
        f"# {manifest['name']} {manifest['version']}",
        "",
        f"This model {_TASKS[manifest['task']]}: {', '.join(manifest['classes'])}.",
        "",
        "## Where it comes from",
        "",
        f"- Model: {model['spec']}" + (f", {model['architecture']}" if model["architecture"] else ""),
        f"- Trained on: {_trained_on(model)}",
        f"- Measured on: commit {metrics['commit']} of the dataset `{metrics['dataset']}`, {metrics['chosen']}",
        f"- Packaged for: {manifest['target']}, {manifest['created']}",
        "",
        "## Intended use",
        "",
        intended_use or "Not stated by whoever packaged it.",
        "",
        "## How good it is",
        "",
        *_table(metrics),
        "",
        f"On the same images the packaged model agrees with the original by {metrics['agreement']:.4f} (1 is the same answer on "
        "every image).",
        "",
        "## Limits",
        "",
        *(f"- {line}" for line in _limits(manifest)),
    ]
    return "\n".join(lines) + "\n"


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write `SHA256SUMS`, as `sha256sum -c` reads it: of these files, and of the manifest itself."""
    manifest = folder / "package.json"
    sums = dict(digests) | {manifest.name: digest(manifest)}
    (folder / SUMS).write_text("".join(f"{value}  {name}\n" for name, value in sorted(sums.items())), encoding="utf-8")


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as it is written."""
    return json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _trained_on(model: Mapping[str, Any]) -> str:
    if model["run"] is None:
        return "not known; the model came as a file"
    parent = f", compressed from {model['parent']}" if model["parent"] else ""
    return f"commit {model['commit']} of the dataset `{model['dataset']}` (run `{model['run']}`{parent})"


def _table(metrics: Mapping[str, Any]) -> list[str]:
    """Overall, classes and slices as one Markdown table."""
    before, after = metrics["original"], metrics["packaged"]
    rows = [("all images", before["images"], before["metric"], before["overall"], after["overall"])]
    for what, images in (("class", None), ("slice", before["slice_images"])):
        metric, was, now = before[f"{what}_metric"], before[f"per_{what}"], after[f"per_{what}"]
        rows += [
            (
                name if images is None else f"slice: {name}",
                "" if images is None else images[name],
                metric,
                was[name],
                now.get(name),
            )
            for name in was
        ]
    head = ["| | images | metric | original | packaged |", "|---|---|---|---|---|"]
    cells = (" | ".join((_cell(what), str(n), metric, _number(a), _number(b))) for what, n, metric, a, b in rows)
    return [*head, *(f"| {each} |" for each in cells)]


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    metrics = manifest["metrics"]
    said = ["It knows nothing but the classes above; whatever else it sees, it answers in them, or not at all."]
    per_class = {name: value for name, value in metrics["packaged"]["per_class"].items() if value is not None}
    per_slice = {
        name: value
        for name, value in metrics["packaged"]["per_slice"].items()
        if value is not None and metrics["packaged"]["slice_images"][name] >= metrics["fewest"]
    }
    for what, values in (("class", per_class), ("slice", per_slice)):
        if len(values) > 1:
            worst = min(values, key=lambda name: values[name])
            said.append(
                f"Its weakest {what} is '{worst}': {metrics['packaged'][f'{what}_metric']} {_number(values[worst])}."
            )
    small = [name for name, n in metrics["packaged"]["slice_images"].items() if n < metrics["fewest"]]
    if small:
        said.append(f"Too few images to judge: {', '.join(small)}.")
    if manifest["reference"] is None:
        said.append("It carries no reference of its training images, so drift cannot be measured on the device.")
    return [*said, *metrics["notes"]]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
