"""Keep what is to be known of a training run beside the scripts: its settings, log and curve, and what became of it.

Written by `export.py`: `record.json`, `log.jsonl` and `curve.svg`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.pretrain.pictures import SIDE
from curate.files import write_atomic
from curate.models.encoders import builtin

FOLDER: Final = Path(__file__).parent

_WIDTH, _HEIGHT, _MARGIN = 640, 300, 40
_CURVES: Final = {
    "contrast": "#0072b2",
    "category": "#d55e00",
    "style contrast": "#009e73",
    "style": "#cc79a7",
    "category accuracy": "#000000",
}


def keep(run: Path, step: int, file: Path, folder: Path = FOLDER) -> dict[str, Any]:
    """Write the record of a run whose network is in a file; returns it.

    Args:
        run: The run's folder.
        step: Of the checkpoint that was exported.
        file: The graph.
        folder: Where the record goes.
    """
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    content, notes = file.read_bytes(), run / "notes.txt"
    record = {
        "name": builtin.NAME,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "settings": json.loads((run / "settings.json").read_text()),
        "steps": step,
        "hours": round(sum(line["seconds a step"] for line in lines) * lines[0]["step"] / 3600, 2),
        "notes": notes.read_text().splitlines() if notes.exists() else [],
        "last": lines[-1],
        "example": _example(file),
    }
    write_atomic(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    write_atomic(folder / "curve.svg", curve(lines).encode())
    write_atomic(folder / "record.json", (json.dumps(record, indent=1) + "\n").encode())
    return record


def example() -> Any:
    """A picture whose vectors are recorded, so that a change of them is noticed; uint8 of shape (SIDE, SIDE, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([2.6 * x, 2.6 * y, 255 * ((x // 24 + y // 24) % 2)], axis=2).astype(np.uint8)


def curve(lines: Sequence[dict[str, float]]) -> str:
    """Losses by step, each in parts of its first value, and the accuracy of categories, as an SVG picture."""
    last = max(line["step"] for line in lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    wide, high = _WIDTH - 4 * _MARGIN, _HEIGHT - 2 * _MARGIN
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = _MARGIN + high * (1 - tick)
        parts.append(f'<path d="M{_MARGIN} {y}h{wide}" stroke="#dddddd"/><text x="8" y="{y + 4}">{tick}</text>')
        parts.append(
            f'<text x="{_MARGIN + wide * tick}" y="{_HEIGHT - 18}" text-anchor="middle">{last * tick:.0f}</text>'
        )
    for name, color in _CURVES.items():
        values = np.array([line[name] for line in lines])
        if not name.endswith("accuracy"):
            values = values / values.max()
        points = " ".join(
            f"{_MARGIN + wide * line['step'] / last:.1f},{_MARGIN + high * (1 - value):.1f}"
            for line, value in zip(lines, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        y = _MARGIN + high * (1 - values[-1])
        parts.append(f'<text x="{_MARGIN + wide + 6}" y="{y + 4:.1f}" fill="{color}">{name}</text>')
    parts.append(
        f'<text x="{_MARGIN}" y="20">Losses in parts of their largest, and accuracy of categories, by step</text></svg>'
    )
    return "\n".join(parts) + "\n"


def _example(file: Path) -> dict[str, list[float]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    vectors = session.run([builtin.SEMANTIC, builtin.STYLE], {"pixels": example()[None]})
    return {
        name: np.round(vector[0, :8], 5).tolist()
        for name, vector in zip((builtin.SEMANTIC, builtin.STYLE), vectors, strict=True)
    }
