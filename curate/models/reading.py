"""A reader of one line of text: a small CRNN, learnt with CTC from lines that are drawn or cut out, and run from an ONNX file.

Shi, Bai and Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition", TPAMI 2017.
Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, UsageError
from curate.models.runtime import open_graph
from curate.models.torch_onnx import write_onnx

Lines = npt.NDArray[np.uint8]
"""Grey pictures of one line each, of shape (n, 32, width), the text from left to right."""

HEIGHT: Final = 32
"""Pixels of a line's height, to which it is resized before."""

_RATE: Final = 3e-3
_BLANK: Final = 0
_GIVEN: Final = "lines"
_SCORES: Final = "scores"
_LETTERS: Final = "alphabet"  # in the file's metadata


class Reader:
    """Reads lines by an ONNX file of `train_reader`.

    Args:
        path: The file.
        threads: That one inference may use.

    Raises:
        InputError: The file is no ONNX model, or was not written by `train_reader`.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._graph = open_graph(path, runtime="onnxruntime", threads=threads)
        self.alphabet = self._graph.metadata.get(_LETTERS, "")
        """Letters that it knows."""
        if not self.alphabet:
            raise InputError("this is no reader", where=path, remedy="name a file that train_reader has written")

    def read(self, lines: Lines) -> list[str]:
        """The text of each line, uint8 of shape (n, 32, width)."""
        (scores,) = self._graph.call({_GIVEN: normalised(lines)}, [_SCORES])
        return decode(scores, self.alphabet)


def train_reader(
    path: Path,
    draw: Callable[[np.random.Generator, int], tuple[Lines, Sequence[str]]],
    alphabet: str,
    *,
    steps: int,
    batch: int = 64,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> int:
    """Learn to read, and write the reader as an ONNX file.

    Args:
        path: Of the file.
        draw: Gives so many lines, uint8 of shape (n, 32, width), and what they say; asked for new ones at each step.
        alphabet: All letters that lines have.
        steps: Of the optimiser.
        batch: Lines of a step.
        seed: Of lines and weights.
        report: Told the number of each step and its loss.

    Returns:
        How many weights the network has.

    Raises:
        UsageError: The alphabet is empty or has a letter twice; a text has another letter, or as many as a line has columns.
    """
    import onnx
    import torch

    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise UsageError(f"'{alphabet}' is no alphabet", remedy="give each letter once")
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    model = _crnn(len(alphabet))
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=max(steps, 2), pct_start=0.1)
    for step in range(steps):
        lines, texts = draw(rng, batch)
        loss = _loss(model, lines, _codes(texts, alphabet, lines.shape[2] // 2))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if report is not None:
            report(step + 1, float(loss.detach()))
    model.eval()
    write_onnx(model, normalised(draw(rng, 2)[0]), path, given=_GIVEN, outputs=[_SCORES])
    written = onnx.load(str(path))
    onnx.helper.set_model_props(written, {_LETTERS: alphabet})
    onnx.save(written, str(path))
    return sum(each.numel() for each in model.parameters())


def normalised(lines: Lines) -> npt.NDArray[np.float32]:
    """Lines as the network takes them: of mean 0 and spread 1 each, float32 of shape (n, 1, 32, width)."""
    values = lines.astype(np.float32)
    mean, spread = (each(values, axis=(1, 2), keepdims=True) for each in (np.mean, np.std))
    return np.asarray((values - mean) / (spread + 1))[:, None]


def decode(scores: npt.NDArray[Any], alphabet: str) -> list[str]:
    """The likeliest path of each line, (n, columns, 1 + letters), without repetitions and blanks."""
    texts = []
    for path in scores.argmax(axis=2):
        kept = path[np.concatenate([[True], path[1:] != path[:-1]])]
        texts.append("".join(alphabet[number - 1] for number in kept if number != _BLANK))
    return texts


def _codes(texts: Sequence[str], alphabet: str, columns: int) -> list[list[int]]:
    """Numbers of the letters, from 1 on."""
    numbers = {letter: number for number, letter in enumerate(alphabet, 1)}
    for text in texts:
        if not set(text) <= numbers.keys() or len(text) >= columns:
            remedy = f"write texts of fewer than {columns} letters of '{alphabet}'"
            raise UsageError(f"'{text}' cannot be learnt", remedy=remedy)
    return [[numbers[letter] for letter in text] for text in texts]


def _loss(model: Any, lines: Lines, codes: Sequence[Sequence[int]]) -> Any:
    """CTC's loss of a batch."""
    import torch

    logits = model(torch.from_numpy(normalised(lines))).log_softmax(2).transpose(0, 1)
    return torch.nn.functional.ctc_loss(
        logits,
        torch.tensor([code for each in codes for code in each]),
        torch.full((len(codes),), len(logits)),
        torch.tensor([len(each) for each in codes]),
        zero_infinity=True,
    )


def _crnn(letters: int) -> Any:
    """Convolutions down to a column for every second pixel, a GRU both ways, and scores of each letter for each column."""
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
            self.tell = nn.Linear(96, 1 + letters)

        def forward(self, lines: torch.Tensor) -> Any:
            columns = self.look(lines).squeeze(2).transpose(1, 2)
            return self.tell(self.follow(columns)[0])

    return Crnn()
