"""What is written down of a training as it goes: a line for each epoch, TensorBoard, and MLflow where it is configured."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from curate.files import write_atomic
from curate.models.training.checkpoints import cannot_write

LOG_FILE: Final = "log.jsonl"
TENSORBOARD_FOLDER: Final = "tensorboard"
MLFLOW_VARIABLE: Final = "MLFLOW_TRACKING_URI"

_EXPERIMENT: Final = "curate"


class Log:
    """Writes each epoch's numbers to wherever they are wanted. Made by `open_log`."""

    def __init__(self, folder: Path, board: Any, mlflow: Any) -> None:
        self._path = folder / LOG_FILE
        self._board = board
        self._mlflow = mlflow

    def write(self, record: Mapping[str, Any]) -> None:
        """Add an epoch.

        Args:
            record: 'epoch' (the first is 1), and numbers by name.

        Raises:
            NotKept: The disk is full.
        """
        epoch = int(record["epoch"])
        numbers = {name: float(value) for name, value in record.items() if name != "epoch"}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self._board is not None:
                for name, value in numbers.items():
                    self._board.add_scalar(name, value, epoch)
                self._board.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if self._mlflow is not None:
            self._mlflow.log_metrics(numbers, step=epoch)


@contextmanager
def open_log(folder: Path, name: str, settings: Mapping[str, Any], *, epochs: int) -> Iterator[Log]:
    """The log of a training that has `epochs` epochs behind it; what a killed run wrote of later ones is taken away.

    Args:
        folder: Of the run.
        name: Of the run, for MLflow.
        settings: Of the run, for MLflow.
        epochs: How many are done.
    """
    path = folder / LOG_FILE
    if path.exists():
        kept = [line for line in read_log(folder) if line["epoch"] <= epochs]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    with ExitStack() as stack:
        board = _board(folder, epochs)
        if board is not None:
            stack.callback(board.close)
        mlflow = _mlflow(name, settings)
        if mlflow is not None:
            stack.callback(mlflow.end_run)
        yield Log(folder, board, mlflow)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The epochs in a run's log; a line that a kill left unfinished is passed over."""
    found = []
    try:
        lines = (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _board(folder: Path, epochs: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    # Of an earlier part of the run, what comes at or after this step is not shown.
    return SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=epochs + 1 if epochs else None)


def _mlflow(name: str, settings: Mapping[str, Any]) -> Any:
    """MLflow with a run begun; None unless the user named a server (or folder) and has it installed."""
    if not os.environ.get(MLFLOW_VARIABLE) or importlib.util.find_spec("mlflow") is None:
        return None
    mlflow = importlib.import_module("mlflow")
    mlflow.set_experiment(_EXPERIMENT)
    mlflow.start_run(run_name=name)
    mlflow.log_params(dict(settings))
    return mlflow
