"""Train the built-in encoder: ``python -m benchmarks.pretrain.train --folder RUN``. Run again, it goes on where it stopped.

Each step takes pictures of `pictures.py` and two pieces of each, under different lights. Four things are learnt at once:

- **contrast**: the two pieces belong together, and not with those of other pictures (Chen et al., 'SimCLR', ICML 2020);
- **category**: which formula made the thing (formula-supervised: Kataoka et al., IJCV 2022), whatever style it is drawn in;
- **style**: images that share a light and a camera belong together, whatever they show; and which style a picture is in;
- **photometry**: the numbers of that light and camera.

Training runs in `--workers` processes of one thread each, which average their gradients: on a machine that has other work too,
one process with many threads waits for the slowest of them at every layer. Each worker has its own pictures, rendered while
training goes on, some thousand at a time; each picture is used several times. All randomness comes from the seed, the worker and
the step's number, so a run that was killed and resumed sees what it would have seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.pretrain.network import SEMANTIC, STYLE, Network
from benchmarks.pretrain.pictures import Pictures, pictures
from benchmarks.pretrain.styles import STYLES
from benchmarks.pretrain.things import CATEGORIES
from benchmarks.pretrain.views import PHOTOMETRY, cut, expose, photometry
from curate.errors import UsageError
from curate.files import write_atomic

LOG_STEPS: Final = 20

WEIGHTS: Final = {"contrast": 1.0, "category": 0.5, "style contrast": 0.3, "style": 0.2, "photometry": 0.3}
"""Of the losses."""


@dataclass(frozen=True)
class Settings:
    """Of a run."""

    seed: int = 0
    steps: int = 3000
    workers: int = 2
    batch: int = 192
    side: int = 64
    rate: float = 2e-3
    decay: float = 0.05
    warmup: int = 200
    temperature: float = 0.15
    shard: int = 2048
    """Pictures that are rendered at a time."""
    window: int = 14
    """Shards that a worker draws from, and how many of them it has from its first step:"""
    first: int = 2
    uses: int = 6
    """How often a picture is drawn, on average."""
    checkpoint: int = 100
    """Steps between two checkpoints."""


class Model(nn.Module):
    """The network, and the heads that only training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.projector = nn.Sequential(nn.Linear(SEMANTIC, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128))
        self.categories = nn.Linear(SEMANTIC, CATEGORIES, bias=False)
        self.styles = nn.Linear(STYLE, len(STYLES))
        self.photometry = nn.Linear(STYLE, len(PHOTOMETRY))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Everything that losses are computed of, in float32."""
        semantic, style = self.network(images)
        direction = F.normalize(semantic.float(), dim=1)
        return {
            "contrast": F.normalize(self.projector(semantic).float(), dim=1),
            "category": 16 * direction @ F.normalize(self.categories.weight, dim=1).T,
            "style contrast": F.normalize(style.float(), dim=1),
            "style": self.styles(style).float(),
            "photometry": self.photometry(style).float(),
        }


def main() -> None:
    """Train, or go on."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--workers", type=int, default=Settings.workers, help="processes, one core each")
    parser.add_argument("--until", type=int, help="stop after this step; run again, it goes on")
    options = parser.parse_args()
    run(options.folder, Settings(options.seed, options.steps, options.workers), until=options.until)


def run(folder: Path, settings: Settings, *, until: int | None = None) -> None:
    """Train, or go on with a run that was stopped or killed.

    Args:
        folder: Where the run is kept: `settings.json`, `checkpoint.pt` and `log.jsonl`.
        settings: Of the whole run.
        until: The step after which to stop; None for the last.

    Raises:
        UsageError: The run in the folder was begun with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun = folder / "settings.json"
    if not begun.exists():
        write_atomic(begun, json.dumps(asdict(settings)).encode())
    if json.loads(begun.read_text()) != asdict(settings):
        raise UsageError("the run was begun with other settings", where=begun, remedy="use them, or another folder")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # workers meet on this machine only
    stop = settings.steps if until is None else min(until, settings.steps)
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (folder, settings, stop, f"file://{meeting}/workers")
        torch.multiprocessing.spawn(_work, arguments, settings.workers, daemon=False)


def _work(worker: int, folder: Path, settings: Settings, stop: int, meeting: str) -> None:
    """One worker's part of a run. The first of them writes checkpoints and the log."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=worker, world_size=settings.workers)
    torch.manual_seed(settings.seed)
    model = Model().to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimizer = torch.optim.AdamW(_groups(model, settings.decay), lr=settings.rate, betas=(0.9, 0.98))
    parts = {"model": model, "average": average, "optimizer": optimizer}
    start = _resume(folder / "checkpoint.pt", parts)
    shards = Shards(settings, worker)
    log = Log(folder / "log.jsonl", start) if worker == 0 else None
    for step in range(start, stop):
        rate = settings.rate * _schedule(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = _step(model, optimizer, shards.batch(step), step * settings.workers + worker, settings)
        average.update_parameters(model)
        if log is not None:
            log.add(step + 1, rate, losses)
            if (step + 1) % settings.checkpoint == 0 or step + 1 == stop:
                _save(folder / "checkpoint.pt", parts, step + 1)
    shards.close()
    distributed.destroy_process_group()


class Shards:
    """The pictures that a worker draws from: the latest shards, to which a new one comes now and then."""

    def __init__(self, settings: Settings, worker: int) -> None:
        self._settings = settings
        self._worker = worker
        self._every = max(1, settings.uses * settings.shard // settings.batch)
        self._pool = ProcessPoolExecutor(1)
        self._coming: deque[tuple[int, Future[Pictures]]] = deque()
        self._there: dict[int, Pictures] = {}

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, categories and styles for a step."""
        settings = self._settings
        last = settings.first + step // self._every
        wanted = range(max(0, last - settings.window), last)
        self._there = {number: shard for number, shard in self._there.items() if number in wanted}
        for number in range(wanted.start, last + 2):
            if number not in self._there and all(number != each for each, _ in self._coming):
                first = (number * settings.workers + self._worker) * settings.shard
                numbers = range(first, first + settings.shard)
                self._coming.append((number, self._pool.submit(pictures, settings.seed, numbers)))
        while self._coming and self._coming[0][0] < last:
            number, future = self._coming.popleft()
            self._there[number] = future.result()
        rng = np.random.default_rng([settings.seed, 3, step, self._worker])
        which = rng.integers(len(wanted), size=settings.batch) + wanted.start
        rows = rng.integers(settings.shard, size=settings.batch)
        chosen = [(self._there[shard], row) for shard, row in zip(which.tolist(), rows.tolist(), strict=True)]
        pixels = torch.from_numpy(np.stack([shard.pixels[row] for shard, row in chosen]))
        category = torch.tensor([int(shard.category[row]) for shard, row in chosen])
        return pixels, category, torch.tensor([int(shard.style[row]) for shard, row in chosen])

    def close(self) -> None:
        """Stop rendering."""
        self._pool.shutdown(cancel_futures=True)


def _step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
    number: int,
    settings: Settings,
) -> dict[str, float]:
    """One step of one worker; returns its losses."""
    pixels, category, style = batch
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
    count = len(pixels)
    # Neighbours in the batch share their photometry: first with second, third with fourth; the second views alike.
    drawn = photometry(count, generator).repeat_interleave(2, dim=0)
    images = torch.cat([cut(pixels, settings.side, generator) for _ in range(2)])
    images = expose(images, drawn, generator).contiguous(memory_format=torch.channels_last)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
    category, style = category.repeat(2), style.repeat(2)
    known = category >= 0
    losses = {
        "contrast": _contrast(out["contrast"], torch.arange(2 * count).roll(count), settings.temperature),
        "category": F.cross_entropy(out["category"][known], category[known], label_smoothing=0.1),
        "style contrast": _contrast(out["style contrast"], torch.arange(2 * count) ^ 1, 0.1),
        "style": F.cross_entropy(out["style"], style),
        "photometry": F.smooth_l1_loss(out["photometry"], drawn),
    }
    total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
    optimizer.zero_grad()
    total.backward()
    _average_gradients(model, settings.workers)
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    right = (out["category"][known].argmax(dim=1) == category[known]).float().mean()
    return {name: float(loss.detach()) for name, loss in losses.items()} | {"category accuracy": float(right)}


def _average_gradients(model: nn.Module, workers: int) -> None:
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / workers).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _contrast(vectors: Tensor, partner: Tensor, temperature: float) -> Tensor:
    """InfoNCE over unit vectors of shape (n, d): each is to find its partner among all others."""
    similarity = vectors @ vectors.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, partner)


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and normalisation do not."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _schedule(step: int, settings: Settings) -> float:
    """A warm-up, then half a cosine."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    along = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * along)) + 0.001


def _save(path: Path, parts: dict[str, Any], step: int) -> None:
    unfinished = path.with_name(path.name + ".part")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, unfinished)
    unfinished.replace(path)


def _resume(path: Path, parts: dict[str, Any]) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


class Log:
    """A line of means for every `LOG_STEPS` steps, as JSON.

    Args:
        path: The file; what it says of steps after `start` is forgotten, for they are done again.
        start: The step that training goes on from.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._began = time.monotonic()
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= start]
            write_atomic(path, "".join(line + "\n" for line in lines).encode())

    def add(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """Note a step."""
        self._rows.append(losses)
        if step % LOG_STEPS:
            return
        seconds = (time.monotonic() - self._began) / len(self._rows)
        means = {key: round(float(np.mean([row[key] for row in self._rows])), 4) for key in losses}
        with self._path.open("a") as file:
            file.write(
                json.dumps({"step": step, "rate": round(rate, 6), "seconds a step": round(seconds, 3)} | means) + "\n"
            )
        self._rows, self._began = [], time.monotonic()


if __name__ == "__main__":
    main()
