"""The loop's state machine: rounds of find, select, push, wait, train and evaluate that go on where they stopped.

After every step the state is written atomically, beside the dataset, with what the step did. A step that was interrupted is
done again, and each of them may be: finding and selecting replace what they found, pushing doubles nothing, pulling moves
what changed, training goes on where it was. Only a command of the user's starts over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from curate.dataset.folders import now
from curate.dataset.home import dataset_path
from curate.errors import InputError
from curate.files import write_atomic
from curate.loop.plan import Plan

STEPS: Final = ("find", "select", "push", "wait", "train", "evaluate")
"""What a round consists of."""


class Steps(Protocol):
    """What the steps do. Each gives what the log is to say of it, JSON-ready."""

    def require(self, plan: Plan, state: State) -> None:
        """Refuse at once what would fail in some later step."""

    def find(self, plan: Plan, state: State) -> Mapping[str, Any]: ...
    def select(self, plan: Plan, state: State) -> Mapping[str, Any]: ...
    def push(self, plan: Plan, state: State) -> Mapping[str, Any]: ...
    def wait(self, plan: Plan, state: State) -> Mapping[str, Any]: ...
    def train(self, plan: Plan, state: State) -> Mapping[str, Any]: ...
    def evaluate(self, plan: Plan, state: State) -> Mapping[str, Any]: ...


@dataclass
class State:
    """Where a loop is.

    Attributes:
        round: The round that is being played, from 1.
        step: The step to do next; empty if the loop has ended.
        ended: Why, in words; empty while it goes on.
        log: What was done: {'round', 'step', 'time', ...} each.
    """

    round: int = 1
    step: str = STEPS[0]
    ended: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)

    def of(self, step: str, round_: int | None = None) -> dict[str, Any]:
        """What a step of a round (this one if None) logged; empty if it was not done."""
        wanted = self.round if round_ is None else round_
        return next((each for each in self.log if (each["round"], each["step"]) == (wanted, step)), {})

    def metrics(self) -> list[float]:
        """The metric after each round."""
        return [
            float(each["metric"]) for each in self.log if each["step"] == "evaluate" and each.get("metric") is not None
        ]


def state_path(plan: Plan, file: Path) -> Path:
    """Where a loop's state is kept."""
    return dataset_path(plan.dataset) / "loops" / f"{file.stem}.json"


def read_state(path: Path) -> State:
    """A loop's state; a new one if it was never run.

    Raises:
        InputError: The file holds something else.
    """
    try:
        return State(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return State()
    except (ValueError, TypeError):
        raise InputError(
            "this is not a loop's state", where=path, remedy="take the file away to begin the loop again"
        ) from None


def run(
    plan: Plan, path: Path, steps: Steps, *, tell: Callable[[dict[str, Any]], None], most: int | None = None
) -> State:
    """Go on with a loop until it ends.

    Args:
        plan: What to do.
        path: Where the state is (`state_path`).
        steps: How.
        tell: Called with every new line of the log.
        most: Steps to do at most, for tests and for CI jobs with little time; None for all.
    """
    state = read_state(path)
    if not state.ended:
        steps.require(plan, state)
    done = 0
    while not state.ended and (most is None or done < most):
        entry = {"round": state.round, "step": state.step, "time": now()}
        said = getattr(steps, state.step)(plan, state)
        state.log.append({**entry, **said})
        tell(state.log[-1])
        _advance(plan, state)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(state), indent=1).encode())
        done += 1
    return state


def rounds(state: State) -> list[dict[str, Any]]:
    """One row for each round: what it cost, and what it gained.

    The gain is that over the best round so far; of a model that was compared with that of the round before, on the same
    images, over that one, with the interval of the difference.
    """
    rows: list[dict[str, Any]] = []
    best: float | None = None
    for number in range(1, state.round + 1):
        if not any(each["round"] == number for each in state.log):
            continue
        measured = state.of("evaluate", number)
        metric = measured.get("metric")
        gain = None if metric is None or best is None else metric - best
        if metric is not None:
            best = metric if best is None else max(best, metric)
        rows.append(
            {
                "round": number,
                "selected": state.of("select", number).get("images"),
                "pushed": state.of("push", number).get("images"),
                "handed_in": state.of("wait", number).get("handed_in"),
                "fixed": state.of("wait", number).get("fixed"),
                "rejected": state.of("wait", number).get("rejected"),
                "metric": metric,
                "gain": measured.get("gain", gain),
                "low": measured.get("low"),
                "high": measured.get("high"),
                "verdict": measured.get("verdict"),
                "run": state.of("train", number).get("run"),
            }
        )
    return rows


def _advance(plan: Plan, state: State) -> None:
    """Set the next step, or say why there is none."""
    if state.step == "select" and not state.of("select").get("images") and not plan.findings:
        state.ended = "there is nothing left to label"
    elif state.step != STEPS[-1]:
        state.step = STEPS[STEPS.index(state.step) + 1]
    elif (why := _reason_to_stop(plan, state)) is not None:
        state.ended = why
    else:
        state.round, state.step = state.round + 1, STEPS[0]


def _reason_to_stop(plan: Plan, state: State) -> str | None:
    metrics, stop = state.metrics(), plan.stop
    if state.round >= plan.rounds:
        return f"all {plan.rounds} rounds are done"
    if stop.metric is not None and metrics and metrics[-1] >= stop.metric:
        return f"{plan.measure} is {metrics[-1]:.4g}, which was asked for"
    before, lately = metrics[: -stop.patience or None], metrics[-stop.patience :]
    if stop.patience and before and len(metrics) > stop.patience and max(lately) < max(before) + stop.gain:
        return f"{plan.measure} has not risen by {stop.gain:g} in {stop.patience} rounds"
    return None
