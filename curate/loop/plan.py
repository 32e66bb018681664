"""`loop.yaml`: what a loop of finding, selecting, labelling and training is to do."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

import yaml

from curate.errors import InputError
from curate.loop.training import METRICS, Training, read_training


@dataclass(frozen=True)
class Wait:
    """How long to wait for the annotators.

    Attributes:
        handed_in: Part of the pushed images that must be handed in, in (0, 1].
        poll: Seconds from one look to the next.
        timeout: Seconds after which the loop goes on with what there is; None for never.
    """

    handed_in: float = 1.0
    poll: float = 60.0
    timeout: float | None = None


@dataclass(frozen=True)
class Stop:
    """When to stop before the last round.

    Attributes:
        gain: The metric must rise by at least this over the best so far ...
        patience: ... once in so many rounds.
        metric: Stop when it is reached; None for never.
    """

    gain: float = 0.0
    patience: int = 0
    metric: float | None = None


@dataclass(frozen=True)
class Plan:
    """A loop.

    Attributes:
        dataset: The dataset.
        remote: Address of the project where people label.
        budget: Images a round.
        rounds: Rounds at most.
        strategy: How images are selected (`curate select`).
        checks: Checks to run at the beginning of each round.
        findings: SQL condition on findings that are pushed beside the selection; None for none.
        where: SQL condition on the images to select from; None for those without labels.
        predictions: Layer that selection and new images use; None for none.
        train: A model that curate is to train, or a command line; None for none. In it and in `evaluate`, {dataset}, {round},
            {commit} and {run} (that curate trained) are filled in.
        evaluate: Command line that prints a JSON object with the metric on its last line; None to measure the model that
            curate trained, or without one a probe.
        metric: Name of the metric, of which more is better; None for the usual one (`measure`).
        wait: For the annotators.
        stop: Before the last round.
        seed: Of everything random.
    """

    dataset: str
    remote: str = ""
    budget: int = 100
    rounds: int = 1
    strategy: str = "mix"
    checks: tuple[str, ...] = ()
    findings: str | None = None
    where: str | None = None
    predictions: str | None = None
    train: str | Training | None = None
    evaluate: str | None = None
    metric: str | None = None
    wait: Wait = field(default_factory=Wait)
    stop: Stop = field(default_factory=Stop)
    seed: int = 0

    @property
    def trained(self) -> Training | None:
        """The model that curate trains, if it does."""
        return self.train if isinstance(self.train, Training) else None

    @property
    def measure(self) -> str:
        """Name of the metric."""
        if self.metric is not None:
            return self.metric
        return "accuracy" if self.trained is None or self.evaluate is not None else METRICS[self.trained.task][0]


_PARTS: Final = {"wait": Wait, "stop": Stop}


def read_plan(path: Path) -> Plan:
    """Read a loop's file.

    Raises:
        InputError: It cannot be read, or a key or value in it is wrong; the error names it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=path, remedy="give the path of a loop.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML: {error}", where=path, remedy="mend the file") from None
    plan: Plan = _parsed(Plan, content, path, "")
    _check(plan, path)
    return plan


def _parsed(kind: type[Any], content: Any, path: Path, within: str) -> Any:
    """A dataclass from a mapping; every key must be one of its fields, with a value of the field's type."""
    if not isinstance(content, dict):
        raise InputError(
            "a mapping is needed", where=f"{path}: {within or 'top level'}", remedy="key: value, one a line"
        )
    known = {each.name: each for each in fields(kind)}
    hints = get_type_hints(kind)
    values = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        place = f"{path}: {within}{key}"
        if name not in known:
            raise InputError("there is no such key", where=place, remedy=f"one of: {', '.join(known)}")
        if name in _PARTS:
            values[name] = _parsed(_PARTS[name], value, path, f"{key}.")
        elif name == "train" and isinstance(value, dict):
            values[name] = read_training(value, place)
        else:
            values[name] = _value(hints[name], value, place)
    if kind is Plan and "dataset" not in values:
        raise InputError("which dataset?", where=path, remedy="add 'dataset: NAME'")
    return kind(**values)


def _value(hint: Any, value: Any, place: str) -> Any:
    text = str(hint)
    if value is None and "None" in text:
        return None
    if "tuple" in text and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if "float" in text and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if "str" in text and "tuple" not in text and isinstance(value, str):
        return value
    raise InputError(f"{value!r} is of the wrong type", where=place, remedy="see docs/annotators.md for what it may be")


def _check(plan: Plan, path: Path) -> None:
    wrong = {
        "budget": plan.budget < 1,
        "rounds": plan.rounds < 1,
        "wait.handed_in": not 0 < plan.wait.handed_in <= 1,
        "wait.poll": plan.wait.poll <= 0,
        "stop.patience": plan.stop.patience < 0,
        "seed": plan.seed < 0,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(
                "out of range", where=f"{path}: {name}", remedy="see docs/annotators.md for what it may be"
            )
    known = METRICS[plan.trained.task] if plan.trained is not None and plan.evaluate is None else (plan.measure,)
    if plan.measure not in known:
        raise InputError(
            f"'{plan.measure}' cannot be the metric", where=f"{path}: metric", remedy=f"one of: {', '.join(known)}"
        )
