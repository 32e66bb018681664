"""Serial numbers on pink labels: drawn, learnt by a small CRNN with CTC, and read by its ONNX file.

Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition", TPAMI 2017.
Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from curate.imaging import Pixels
from curate.models.torch_onnx import write_onnx

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ-"
"""Without letters that look like digits."""

HEIGHT: Final = 32
WIDTH: Final = 160
"""Of what the network sees, pixels."""

PINK: Final = (255, 90, 190)
"""Of labels, RGB."""

_LETTERS, _DIGITS = ALPHABET[10:-1], ALPHABET[:10]
_HERSHEY: Final = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_DRAWN: Final = 2  # times as large as it is seen
_SERIALS: Final = 0.3  # of what is learnt from
_SHORTEST, _LONGEST = 4, 10
_BATCH: Final = 64
_RATE: Final = 3e-3
_BLANK: Final = 0

Plates = npt.NDArray[np.uint8]


def draw_serial(rng: np.random.Generator) -> str:
    """A serial number: two letters, a dash, four to six digits, and for every second one a letter."""
    text = "".join(rng.choice(list(_LETTERS), 2)) + "-" + "".join(rng.choice(list(_DIGITS), int(rng.integers(4, 7))))
    return text + (str(rng.choice(list(_LETTERS))) if rng.random() < 0.5 else "")


def draw_label(text: str, rng: np.random.Generator) -> Pixels:
    """A printed label, clean and upright; uint8 of shape (HEIGHT, WIDTH, 3) times `_DRAWN`."""
    height, width = _DRAWN * HEIGHT, _DRAWN * WIDTH
    shade = rng.uniform(0.85, 1.05)
    label = np.clip(np.array(PINK) * shade, 0, 255).astype(np.uint8)
    image = np.broadcast_to(label, (height, width, 3)).copy()
    ink = tuple(int(value) for value in rng.integers(0, 60, 3))
    font = int(rng.integers(len(_HERSHEY) + 1))
    if font == len(_HERSHEY):
        drawing = Image.fromarray(image)
        ImageDraw.Draw(drawing).text(
            (width / 2, height / 2), text, ink, ImageFont.load_default(_fitting(width, height, text)), anchor="mm"
        )
        return np.asarray(drawing)
    thick = int(rng.integers(2, 4))
    (across, down), _ = cv2.getTextSize(text, _HERSHEY[font], 1.0, thick)
    scale = min(0.88 * width / across, 0.62 * height / down)
    (across, down), _ = cv2.getTextSize(text, _HERSHEY[font], scale, thick)
    at = (width - across) // 2, (height + down) // 2
    cv2.putText(image, text, at, _HERSHEY[font], scale, ink, thick, cv2.LINE_AA)
    return image


def _fitting(width: int, height: int, text: str) -> float:
    """Size of Pillow's own font at which a text fits."""
    across = ImageFont.load_default(100).getlength(text)
    return float(min(100 * 0.88 * width / across, 0.75 * height))


def seen_by_reader(label: Pixels, rng: np.random.Generator) -> Plates:
    """A label as the reader gets it, cut out not quite straight, blurred and noisy; uint8 of shape (HEIGHT, WIDTH)."""
    height, width = label.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    off = rng.uniform(-0.06, 0.06, (4, 2)) * [height, height]
    matrix = cv2.getPerspectiveTransform((corners + off).astype(np.float32), corners)
    grey = cv2.warpPerspective(
        cv2.cvtColor(label, cv2.COLOR_RGB2GRAY), matrix, (width, height), borderValue=float(rng.uniform(0, 255))
    )
    small = cv2.resize(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, 0.9) * _DRAWN), (WIDTH, HEIGHT), interpolation=3)
    values = small * rng.uniform(0.4, 1.1) + rng.normal(0, rng.uniform(0, 8), small.shape)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def normalised(plates: Plates) -> npt.NDArray[np.float32]:
    """Grey labels, (n, HEIGHT, WIDTH), as the network takes them: of mean 0 and spread 1 each, (n, 1, HEIGHT, WIDTH)."""
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
        plates, texts = _labels([_draw_text(rng) for _ in range(_BATCH)], rng)
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
    plates, texts = _labels([draw_serial(rng) for _ in range(500)], rng)
    right = float(np.mean([one == other for one, other in zip(read(plates), texts, strict=True)]))
    weights = sum(each.numel() for each in model.parameters())
    return {"steps": steps, "cpu_s": time.process_time() - began, "weights": weights, "labels_right": right}


def open_reader(path: Path, threads: int = 1) -> Callable[[Plates], list[str]]:
    """What reads grey labels, uint8 of shape (n, HEIGHT, WIDTH)."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda plates: decode(session.run(None, {"labels": normalised(plates)})[0])


def _draw_text(rng: np.random.Generator) -> str:
    """What is learnt from: mostly letters at random, since in serial numbers alone the first two are never seen apart."""
    if rng.random() < _SERIALS:
        return draw_serial(rng)
    return "".join(rng.choice(list(ALPHABET), int(rng.integers(_SHORTEST, _LONGEST + 1))))


def _labels(texts: list[str], rng: np.random.Generator) -> tuple[Plates, list[str]]:
    """Labels with texts, as the reader gets them."""
    return np.stack([seen_by_reader(draw_label(text, rng), rng) for text in texts]), texts


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
