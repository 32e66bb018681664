"""The loop of every training: steps, validation, early stopping, checkpoints; see `curate.models.training.base.Learner`.

AdamW (Loshchilov and Hutter, ICLR 2019) with a warm-up and half a cosine, gradients clipped by their norm. The weights of the
best epoch are kept. Everything random of a step follows from the seed and the step's number, so that a training that was
killed and went on from its last checkpoint ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.errors import InputError, UsageError
from curate.models.training.base import Example, Learner, Precomputing
from curate.models.training.batches import Batch, Reader, step_generator, steps_per_epoch
from curate.models.training.checkpoints import (
    Progression,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from curate.models.training.logs import Log
from curate.models.training.tensors import copied, learnt, load_learnt, to_device, to_train_mode

Report = Callable[[int, int, str], None]
"""Told (steps done, steps to do, what is going on) as often as there is something new."""

Say = Callable[[str], None]
"""Told what a person should read."""

CHECKPOINT_SECONDS: Final = 30.0
"""A kill loses no more than this; writing a large checkpoint takes a few seconds."""

_WARMUP_PART: Final = 0.05
_MOST_WARMUP: Final = 500
_LAST_RATE: Final = 0.01
_LINE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    Attributes:
        epochs: That were made, at most.
        best_epoch: Of whose weights the learner has now, from 1.
        numbers: What the learner's `score` said of them; empty without validation.
        seconds: It took, all parts of an interrupted run together.
        stopped: Why it ended: 'epochs', 'steps', 'early' (no better for `patience` epochs) or 'minutes'.
        unreadable: Why images were left out, by their path.
    """

    epochs: int
    best_epoch: int
    numbers: dict[str, float]
    seconds: float
    stopped: str
    unreadable: dict[str, str]


def fit(
    learner: Learner,
    train: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    *,
    shared: Path,
    open_log: Callable[[int], Any],
    report: Report,
    say: Say,
) -> Fit:
    """Train a learner; afterwards it has the best weights, in eval mode and on the CPU.

    Args:
        learner: What learns; fresh.
        train: At least one example.
        validation: What decides which epoch is best; none: the last is.
        folder: For the checkpoint; a training that is found there goes on.
        shared: Folder for what a `Precomputing` learner makes, which other learners of the same images may use.
        open_log: Gives a context manager of the log, told how many epochs are done already.
        report: Told of every step.
        say: Told of epochs.

    Raises:
        InputError: The loss is no number any more, or no image can be read.
        UsageError: The device's memory or the disk is full.
        KeyboardInterrupt: By the user; the checkpoint is written.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    ready = None
    if isinstance(learner, Precomputing):
        ready = learner.precompute([*train, *validation], shared, lambda done, total: report(done, total, "features"))
    reader = Reader(learner, ready, learner.settings.workers or 0)
    with torch.random.fork_rng(devices=[]), _memory(learner):
        training = _Training.begin(learner, reader, train, validation, folder, report, say)
        with open_log(training.at.epoch) as log, _interruption() as interruption:
            stopped = training.run(log, interruption)
    load_learnt(learner.module, training.best)
    learner.module.eval().cpu()
    at = training.at
    return Fit(at.epoch, at.best_epoch + 1, at.numbers, at.seconds, stopped, reader.unreadable)


@dataclass
class _Interruption:
    """Whether the user pressed Ctrl-C."""

    wanted: bool = False


@dataclass
class _Training:
    """A training under way. `at` and the tensors are what its checkpoint holds."""

    learner: Learner
    reader: Reader
    train: Sequence[Example]
    validation: Sequence[Example]
    folder: Path
    report: Report
    say: Say
    optimizer: Any
    scaler: Any
    at: Progression
    best: dict[str, Any]
    average: dict[str, Any]
    started: float
    first_step: int
    last_checkpoint: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls,
        learner: Learner,
        reader: Reader,
        train: Sequence[Example],
        validation: Sequence[Example],
        folder: Path,
        report: Report,
        say: Say,
    ) -> _Training:
        """From the checkpoint if there is one, else from the start."""
        import torch

        learner.module.to(learner.settings.device or "cpu")
        groups = [{**group, "peak": group["lr"]} for group in learner.parameter_groups()]
        optimizer = torch.optim.AdamW(groups)
        dtype = _half(learner)
        scaler = torch.amp.GradScaler(_device_type(learner), enabled=dtype == torch.float16)
        at, best, average = Progression(), {}, {}
        found = read_checkpoint(folder)
        if found is not None:
            at, parts = found
            try:
                load_learnt(learner.module, parts["module"])
                load_optimizer(optimizer, parts.get("optimizer", {}))
            except (RuntimeError, ValueError, KeyError) as error:
                raise InputError(
                    f"the checkpoint is of another network: {str(error).partition(chr(10))[0]}",
                    where=folder,
                    remedy="go on with the versions of the packages that it began with, or train again",
                ) from error
            best, average = parts.get("best", {}), parts.get("average", {})
            if at.scaler:
                scaler.load_state_dict(at.scaler)
        if learner.settings.average is not None and not average:
            average = copied(learnt(learner.module))
        average = {name: value.to(learner.settings.device or "cpu") for name, value in average.items()}
        now = time.monotonic()
        return cls(
            learner, reader, train, validation, folder, report, say, optimizer, scaler, at, best, average,
            started=now - at.seconds, first_step=at.step,
        )  # fmt: skip

    @property
    def epochs(self) -> int:
        """Most epochs; of a number of steps the last one may be a part."""
        steps = self.learner.settings.steps
        return (self.learner.settings.epochs or 1) if steps is None else math.ceil(steps / self.steps_of_epoch)

    @property
    def steps(self) -> int:
        """Most steps."""
        return self.learner.settings.steps or self.epochs * self.steps_of_epoch

    @property
    def steps_of_epoch(self) -> int:
        """Steps of a whole epoch."""
        return steps_per_epoch(len(self.train), self.learner.settings.batch_size or 1)

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return time.monotonic() - self.started

    def run(self, log: Log, interruption: _Interruption) -> str:
        """Train until the end; says why it ended."""
        while (stopped := self._stop()) is None:
            self._epoch(interruption)
            numbers = self._validate(interruption)
            self._finish_epoch(numbers, log)
            self._save_if_due(interruption)
        if not self.best:
            self.best = copied(self.average or learnt(self.learner.module))
            self.at.best_epoch = self.at.epoch - 1
        self._save()
        return stopped

    def _stop(self) -> str | None:
        at, settings = self.at, self.learner.settings
        if at.epoch >= self.epochs:
            return "epochs" if settings.steps is None else "steps"
        if settings.patience is not None and at.best is not None and at.epoch - 1 - at.improved >= settings.patience:
            return "early"
        return "minutes" if at.epoch and self._out_of_time() else None

    def _out_of_time(self) -> bool:
        minutes = self.learner.settings.minutes
        return minutes is not None and self.seconds >= 60 * minutes

    def _epoch(self, interruption: _Interruption) -> None:
        """The rest of an epoch's steps."""
        to_train_mode(self.learner.module)
        for batch in self.reader.training(self.train, self.at.epoch, self.at.batch):
            self._step(batch)
            self.at.batch += 1
            self.at.step += 1
            self._tell()
            self._save_if_due(interruption)
            if self._out_of_time() or self.at.step >= self.steps:
                break

    def _step(self, batch: Batch) -> None:
        import torch

        if batch.content is None:
            self._require_readable()
            return
        settings = self.learner.settings
        rng = step_generator(settings.seed, self.at.step)
        torch.manual_seed(int(rng.integers(1 << 62)))
        factor = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        with _autocast(self.learner):
            loss, parts = self.learner.loss(to_device(batch.content, settings.device), rng)
        value = float(loss.detach())
        self._require_number(value, "loss")
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
        if not self.scaler.is_enabled():  # which leaves such a step out by itself
            self._require_number(norm, "gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if settings.average is not None:
            self._average(settings.average)
        for name, number in {"loss": value, **parts}.items():
            self.at.sums[name] = self.at.sums.get(name, 0.0) + number

    def _rate(self) -> float:
        """What the highest learning rates are multiplied by: a warm-up, then half a cosine, by steps or by time."""
        done = self.at.step / self.steps
        warmup = min(_WARMUP_PART, _MOST_WARMUP / self.steps)
        minutes = self.learner.settings.minutes
        if minutes is not None:
            done, warmup = min(1.0, max(done, self.seconds / (60 * minutes))), _WARMUP_PART
        if done < warmup:
            return min(1.0, (done + 1 / self.steps) / warmup)
        return max(_LAST_RATE, 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))))

    def _average(self, decay: float) -> None:
        decay = min(decay, (1 + self.at.step) / (10 + self.at.step))
        for name, value in learnt(self.learner.module).items():
            kept = self.average[name]
            if kept.is_floating_point():
                kept.lerp_(value.detach(), 1 - decay)
            else:
                kept.copy_(value)

    def _validate(self, interruption: _Interruption) -> dict[str, float]:
        """Numbers of the network as it is now; none without examples."""
        import torch

        if not self.validation:
            return {}
        predictions: list[Any] = []
        examples: list[Example] = []
        module = self.learner.module
        own = copied(learnt(module)) if self.average else {}
        if self.average:
            load_learnt(module, self.average)
        module.eval()
        try:
            with torch.inference_mode(), _autocast(self.learner):
                for batch in self.reader.validation(self.validation):
                    if batch.content is not None:
                        predictions += self.learner.predict(to_device(batch.content, self.learner.settings.device))
                        examples += batch.examples
                    if interruption.wanted:
                        break
        finally:
            if own:
                load_learnt(module, own)
        if interruption.wanted:  # the epoch is validated anew when it goes on
            self._save()
            raise KeyboardInterrupt
        if not examples:
            raise InputError("not one image of the validation split can be read", where=self.validation[0].path)
        return self.learner.score(predictions, examples)

    def _finish_epoch(self, numbers: dict[str, float], log: Log) -> None:
        at, metric = self.at, self.learner.metric
        value = numbers.get(metric, math.nan)
        is_better = at.best is None or value > at.best
        if numbers and not math.isnan(value) and (is_better or value == at.best):
            # Of equal epochs the last: its learning rate was lower.
            at.best, at.best_epoch, at.numbers = value, at.epoch, numbers
            at.improved = at.epoch if is_better else at.improved
            self.best = copied(self.average or learnt(self.learner.module))
        means = {name: total / max(at.batch, 1) for name, total in at.sums.items()}
        at.epoch += 1
        at.seconds = self.seconds
        log.write({"epoch": at.epoch, "step": at.step, "rate": self._rate(), **means, **numbers, "seconds": at.seconds})
        if time.monotonic() - self.last_line > _LINE_SECONDS or at.epoch == self.epochs:
            self.last_line = time.monotonic()
            self.say(_line(at, self.epochs, means.get("loss"), metric, value))
        at.batch, at.sums = 0, {}

    def _tell(self) -> None:
        loss = self.at.sums.get("loss", math.nan) / self.at.batch
        text = f"epoch {self.at.epoch + 1} of {self.epochs}, loss {loss:.3f}"
        if self.at.best is not None:
            text += f", best {self.learner.metric} {self.at.best:.3f}"
        self.report(self.at.step - self.first_step, self.steps - self.first_step, text)

    def _save_if_due(self, interruption: _Interruption) -> None:
        if interruption.wanted:
            self._save()
            raise KeyboardInterrupt
        if time.monotonic() - self.last_checkpoint >= CHECKPOINT_SECONDS:
            self._save()

    def _save(self) -> None:
        self.at.seconds = self.seconds
        self.at.scaler = self.scaler.state_dict()
        parts: dict[str, Mapping[str, Any]] = {
            "module": learnt(self.learner.module),
            "optimizer": optimizer_tensors(self.optimizer),
            "average": self.average,
            "best": self.best,
        }
        write_checkpoint(self.folder, self.at, parts)
        self.last_checkpoint = time.monotonic()

    def _require_number(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise InputError(
                f"the {what} is {value} in epoch {self.at.epoch + 1}, step {self.at.step + 1}: the training has diverged",
                remedy="a lower --lr, --no-amp, or other weights to begin with",
            )

    def _require_readable(self) -> None:
        if len(self.reader.unreadable) >= len({example.path for example in self.train}):
            path, reason = next(iter(self.reader.unreadable.items()))
            raise InputError(f"not one of the training images can be read; the first: {reason}", where=path)


def _line(at: Progression, epochs: int, loss: float | None, metric: str, value: float) -> str:
    text = f"epoch {at.epoch} of {epochs}"
    if loss is not None:
        text += f": loss {loss:.4f}"
    if not math.isnan(value):
        text += f", {metric} {value:.4f}" + (" (best so far)" if at.best_epoch == at.epoch - 1 else "")
    return text


def _device_type(learner: Learner) -> str:
    return (learner.settings.device or "cpu").partition(":")[0]


def _half(learner: Learner) -> Any:
    """The half precision that is used; None for none."""
    import torch

    if not learner.settings.amp:
        return None
    on_gpu = _device_type(learner) == "cuda"
    return torch.float16 if on_gpu and not torch.cuda.is_bf16_supported() else torch.bfloat16


def _autocast(learner: Learner) -> Any:
    import torch

    dtype = _half(learner)
    return torch.autocast(_device_type(learner), dtype=dtype, enabled=dtype is not None)


@contextmanager
def _memory(learner: Learner) -> Iterator[None]:
    """A full memory as an error that says what to do."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        size, side = learner.settings.batch_size or 1, learner.settings.image_size
        raise UsageError(
            f"the memory of '{learner.settings.device}' is full: {size} images of {side} pixels at a time are too many",
            where=learner.settings.model,
            remedy=f"--batch-size {max(1, size // 2)}, a smaller --image-size, or a smaller --model",
        ) from error


@contextmanager
def _interruption() -> Iterator[_Interruption]:
    """Ctrl-C as a wish, so that no step is left half-done; the second one is an interrupt as ever."""
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number: int, frame: Any) -> None:
        interruption.wanted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
