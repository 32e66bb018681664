"""Serial numbers on pink labels: learnt from labels that are drawn, read by the ONNX file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.demo.serials import ALPHABET, Plates, draw_plates, draw_serial, draw_text
from curate.models.reading import Reader, train_reader

_MEASURED: Final = 500


def measure_reader(path: Path, *, steps: int, seed: int = 0) -> dict[str, Any]:
    """Learn to read drawn labels, and write the reader as ONNX.

    Args:
        path: Of the file.
        steps: Of the training; no two labels are the same.
        seed: Of labels and weights.

    Returns:
        Steps, seconds, weights, and the share of new labels that are read without a mistake.
    """
    began = time.process_time()
    weights = train_reader(path, _labels, ALPHABET, steps=steps, seed=seed, report=_report)
    rng = np.random.default_rng([seed, 2])
    texts = [draw_serial(rng) for _ in range(_MEASURED)]
    read = Reader(path).read(draw_plates(texts, rng))
    right = float(np.mean([one == other for one, other in zip(read, texts, strict=True)]))
    return {"steps": steps, "cpu_s": time.process_time() - began, "weights": weights, "labels_right": right}


def _labels(rng: np.random.Generator, count: int) -> tuple[Plates, list[str]]:
    texts = [draw_text(rng) for _ in range(count)]
    return draw_plates(texts, rng), texts


def _report(step: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"reader: step {step:,}, loss {loss:.3f}", file=sys.stderr, flush=True)
