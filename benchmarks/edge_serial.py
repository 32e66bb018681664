"""Serial numbers on pink labels: learnt by a small CRNN with CTC, and read by its ONNX file.

Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition", TPAMI 2017.
Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.demo.serials import ALPHABET, Plates, draw_plates, draw_serial, draw_text
from curate.models.torch_onnx import write_onnx

_BATCH: Final = 64
_RATE: Final = 3e-3
_BLANK: Final = 0


def normalised(plates: Plates) -> npt.NDArray[np.float32]:
    """Grey labels, (n, height, width), as the network takes them: of mean 0 and spread 1 each, (n, 1, height, width)."""
    values = plates.astype(np.float32)
    mean, spread = (each(values, axis=(1, 2), keepdims=True) for each in (np.mean, np.std))
    return np.asarray((values - mean) / (spread + 1))[:, None]


def decode(scores: npt.NDArray[Any]) -> list[str]:
    """The likeliest path of each label, (n, steps, 1 + len(ALPHABET)), without repetitions and blanks."""
    texts = []
    for path in scores.argmax(axis=2):
        kept = path[np.concatenate([[True], path[1:] != path[:-1]])]
        texts.append("".join(ALPHABET[number - 1] for number in kept if number != _BLANK))
    return texts


def train_reader(path: Path, *, steps: int, seed: int = 0) -> dict[str, Any]:
    """Learn to read drawn labels, and write the reader as ONNX.

    Args:
        path: Of the file.
        steps: Of `_BATCH` labels, no two the same.
        seed: Of labels and weights.

    Returns:
        Steps, seconds, weights, and the share of new labels that are read without a mistake.
    """
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    model = _crnn()
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=max(steps, 2), pct_start=0.1)
    began = time.process_time()
    for step in range(steps):
        texts = [draw_text(rng) for _ in range(_BATCH)]
        plates = draw_plates(texts, rng)
        codes = [[1 + ALPHABET.index(letter) for letter in text] for text in texts]
        logits = model(torch.from_numpy(normalised(plates))).log_softmax(2).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(
            logits,
            torch.tensor([code for each in codes for code in each]),
            torch.full((_BATCH,), len(logits)),
            torch.tensor([len(each) for each in codes]),
            zero_infinity=True,
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(
                f"reader: step {step + 1:,} of {steps:,}, loss {float(loss.detach()):.3f}", file=sys.stderr, flush=True
            )
    model.eval()
    write_onnx(model, normalised(plates), path, given="labels", outputs=["scores"])
    read = open_reader(path)
    rng = np.random.default_rng([seed, 2])
    texts = [draw_serial(rng) for _ in range(500)]
    plates = draw_plates(texts, rng)
    right = float(np.mean([one == other for one, other in zip(read(plates), texts, strict=True)]))
    weights = sum(each.numel() for each in model.parameters())
    return {"steps": steps, "cpu_s": time.process_time() - began, "weights": weights, "labels_right": right}


def open_reader(path: Path, threads: int = 1) -> Callable[[Plates], list[str]]:
    """What reads grey labels, uint8 of shape (n, *LABEL_SIZE)."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda plates: decode(session.run(None, {"labels": normalised(plates)})[0])


def _crnn() -> Any:
    """Convolutions down to one row of 80 columns, a GRU both ways, and a score for each letter and column."""
    import torch
    from torch import nn

    def block(given: int, made: int, stride: tuple[int, int]) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True)
        )

    class Crnn(nn.Module):  # type: ignore[misc]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.look = nn.Sequential(
                block(1, 24, (2, 2)), block(24, 40, (2, 1)), block(40, 64, (2, 1)), block(64, 64, (2, 1)),
                block(64, 96, (2, 1)),
            )  # fmt: skip
            self.follow = nn.GRU(96, 48, batch_first=True, bidirectional=True)
            self.tell = nn.Linear(96, 1 + len(ALPHABET))

        def forward(self, labels: torch.Tensor) -> Any:
            columns = self.look(labels).squeeze(2).transpose(1, 2)
            return self.tell(self.follow(columns)[0])

    return Crnn()
