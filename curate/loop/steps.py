"""The steps of a loop as they are done for real: checks here, labels on the server, training here or by the user's commands."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from curate.checks.base import Settings
from curate.checks.together import check_dataset
from curate.connectors.base import Connector
from curate.connectors.registry import connect
from curate.connectors.sync.plans import plan_push
from curate.connectors.sync.pull import pull
from curate.connectors.sync.push import push
from curate.dataset import open_dataset
from curate.dataset.query import quote
from curate.errors import InputError, UsageError
from curate.loop.candidates import NothingLeft
from curate.loop.machine import State
from curate.loop.plan import Plan
from curate.loop.probe import probe_accuracy
from curate.loop.select import Selection, select_images
from curate.loop.selection import read_selection
from curate.loop.strategies.registry import STRATEGIES
from curate.loop.trained import Models, unsaid, untold
from curate.models.passes import Progress
from curate.models.training.trainer import Report, Say

_SHOWN: Final = 500


@dataclass(frozen=True)
class RealSteps:
    """What `curate loop run` does.

    Attributes:
        command: The command line, for the history.
        connector: Makes the connector for an address.
        sleep: Waits some seconds.
        loop: Name of the loop; its runs are named after it.
        report: Told of every step of what takes long.
        say: Told what a person should read.
    """

    command: str
    connector: Callable[[str], Connector] = connect
    sleep: Callable[[float], None] = time.sleep
    loop: str = "loop"
    report: Report = untold
    say: Say = unsaid

    def require(self, plan: Plan, state: State) -> None:
        """See that there is a server, and that what is to be trained can be."""
        _remote(plan, state)
        if (models := self._models(plan)) is None:
            return
        begun = state.step in ("train", "evaluate")
        models.require(range(state.round + begun, plan.rounds + 1))
        if not begun and not any(state.of("train", number).get("run") for number in range(1, state.round)):
            models.rehearse()

    def find(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Run the checks."""
        if not plan.checks:
            return {}
        settings = Settings(seed=plan.seed, progress=self._progress("checking"))
        results = check_dataset(plan.dataset, settings, run=plan.checks, command=self.command)
        return {"findings": {result.check: len(result.findings) for result in results}}

    def select(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Choose this round's images; none where all have labels by now."""
        try:
            chosen = self._select(plan, state)
        except NothingLeft:
            if state.round == 1:
                raise
            return {"images": 0, "strategy": plan.strategy}
        for line in chosen.notes:
            self.say(line)
        return {"images": len(chosen), "strategy": plan.strategy}

    def push(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Send the selection, and the findings that were asked for."""
        connector = self.connector(_remote(plan, state))
        chosen = read_selection(open_dataset(plan.dataset)) if state.of("select").get("images") else []
        priorities = {each.image_id: each.score for each in chosen}
        images: set[str] = set()
        findings = 0
        if priorities:
            wanted = plan_push(plan.dataset, selected=priorities, predictions=plan.predictions)
            push(plan.dataset, connector, wanted, command=self.command)
            images.update(wanted.images)
        if plan.findings:
            try:
                # Those of earlier rounds are with the annotators.
                wanted = plan_push(plan.dataset, findings=f"({plan.findings}) AND status <> 'queued'")
            except UsageError:
                pass  # none of them is open any more
            else:
                findings = push(plan.dataset, connector, wanted, command=self.command).findings
                images.update(wanted.images)
        remote = str(connector.address)
        return {
            "images": len(images),
            "findings": findings,
            "remote": remote,
            "items": self._items(plan, remote, images),
        }

    def wait(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Pull until enough of what was pushed is handed in."""
        pushed = state.of("push")
        before: dict[str, str] = pushed["items"]
        started = time.monotonic()
        fixed = rejected = 0
        while True:
            result = pull(plan.dataset, self.connector(pushed["remote"]), command=self.command)
            fixed += result.counts.get("findings fixed", 0)
            rejected += result.counts.get("findings rejected", 0)
            now = self._items(plan, pushed["remote"], None)
            # What somebody took away there will not be handed in any more.
            done = sum(now.get(item) != work for item, work in before.items())
            said = {"handed_in": done, "of": len(before), "fixed": fixed, "rejected": rejected}
            if done >= plan.wait.handed_in * len(before):
                return said
            if plan.wait.timeout is not None and time.monotonic() - started >= plan.wait.timeout:
                return {**said, "timed_out": True}
            self.sleep(plan.wait.poll)

    def train(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Train this round's model, or run the user's training, if there is any."""
        if (models := self._models(plan)) is not None:
            return models.train(state.round)
        if not isinstance(plan.train, str):
            return {}
        _run(plan.train, plan, state)
        return {"command": plan.train}

    def evaluate(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """The metric: what the user's command prints, else of the model, else the accuracy of a probe on the embeddings."""
        if plan.evaluate is not None:
            return _printed(plan.evaluate, plan, state)
        if (models := self._models(plan)) is None:
            return {"metric": probe_accuracy(plan.dataset, seed=plan.seed, command=self.command), "by": "probe"}
        before = self._earlier(models, state, 1)
        if state.round > 1 and not before:
            self.say(f"there is no model of round {state.round - 1} to compare with")
        return models.evaluate(state.round, before[0] if before else None)

    def _select(self, plan: Plan, state: State) -> Selection:
        layer, models, strategy = plan.predictions, self._models(plan), STRATEGIES.get(plan.strategy)
        if models is not None and strategy is not None and strategy.doubts:
            earlier = self._earlier(models, state, 2 if plan.strategy == "disagreement" else 1)
            for number in earlier:
                models.predict_candidates(number)
            layer = models.layer(earlier[0]) if earlier else layer
        return select_images(
            plan.dataset,
            budget=plan.budget,
            strategy=plan.strategy,
            where=plan.where,
            layer=layer,
            held_out=None if models is None else models.training.held_out,
            seed=plan.seed + state.round,
            command=self.command,
            progress=self._progress("embedding"),
        )

    def _models(self, plan: Plan) -> Models | None:
        """The models of the rounds, if curate trains them."""
        if plan.trained is None:
            return None
        return Models(plan, plan.trained, self.loop, self.command, self.report, self.say)

    def _earlier(self, models: Models, state: State, count: int) -> list[int]:
        """Of the rounds just before, those whose models are there, the last one first."""
        numbers = range(state.round - 1, max(state.round - 1 - count, 0), -1)
        return [number for number in numbers if state.of("train", number).get("run") and models.there(number)]

    def _progress(self, text: str) -> Progress:
        return lambda done, total: self.report(done, total, text)

    def _items(self, plan: Plan, remote: str, images: set[str] | None) -> dict[str, str]:
        """What people had handed in on each item of some images (of all if None), by the item's id."""
        links = open_dataset(plan.dataset).table("links", where=f"remote = {quote(remote)} AND kind = 'image'")
        rows = links.select(["local_id", "remote_id", "work"]).to_pylist()
        return {row["remote_id"]: row["work"] or "" for row in rows if images is None or row["local_id"] in images}


def _remote(plan: Plan, state: State) -> str:
    """The project: the one that an earlier round made, if the plan names only a server."""
    known = [each["remote"] for each in state.log if each["step"] == "push"]
    if known:
        return str(known[-1])
    if not plan.remote:
        raise UsageError("where do people label?", where="remote", remedy="add 'remote: labelstudio://HOST/projects/7'")
    return plan.remote


def _printed(command: str, plan: Plan, state: State) -> dict[str, Any]:
    """The metric that a command of the user's prints.

    Raises:
        InputError: It fails, or prints none.
    """
    printed = _run(command, plan, state).strip().rpartition("\n")[2]
    try:
        return {"metric": float(json.loads(printed)[plan.measure]), "by": command}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"the last line is no JSON object with a number '{plan.measure}': {printed[:_SHOWN]}",
            where=command,
            remedy=f'print {{"{plan.measure}": 0.8}} as the last line',
        ) from None


def _run(command: str, plan: Plan, state: State) -> str:
    """Run a command of the user's and give its stdout; its stderr goes where ours goes.

    Raises:
        InputError: It fails.
    """
    values = {
        "dataset": plan.dataset,
        "round": state.round,
        "commit": open_dataset(plan.dataset).commit.number,
        "run": state.of("train").get("run", ""),
    }
    try:
        line = command.format(**values)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            "only {dataset}, {round}, {commit} and {run} can be filled in",
            where=command,
            remedy="write {{ and }} for braces",
        ) from None
    done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the command ended with status {done.returncode}",
            where=line,
            remedy="mend it; the loop goes on from there",
        )
    return done.stdout
