"""The steps of a loop as they are done for real: checks here, labels on the server, training by the user's own commands."""

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
from curate.loop.machine import State
from curate.loop.plan import Plan
from curate.loop.probe import probe_accuracy
from curate.loop.select import select_images
from curate.loop.selection import read_selection

_SHOWN: Final = 500


@dataclass(frozen=True)
class RealSteps:
    """What `curate loop run` does.

    Attributes:
        command: The command line, for the history.
        connector: Makes the connector for an address.
        sleep: Waits some seconds.
    """

    command: str
    connector: Callable[[str], Connector] = connect
    sleep: Callable[[float], None] = time.sleep

    def find(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Run the checks."""
        if not plan.checks:
            return {}
        settings = Settings(seed=plan.seed)
        results = check_dataset(plan.dataset, settings, run=plan.checks, command=self.command)
        return {"findings": {result.check: len(result.findings) for result in results}}

    def select(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Choose this round's images."""
        chosen = select_images(
            plan.dataset,
            budget=plan.budget,
            strategy=plan.strategy,
            where=plan.where,
            layer=plan.predictions,
            seed=plan.seed + state.round,
            command=self.command,
        )
        return {"images": len(chosen), "strategy": plan.strategy}

    def push(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """Send the selection, and the findings that were asked for."""
        connector = self.connector(_remote(plan, state))
        priorities = {each.image_id: each.score for each in read_selection(open_dataset(plan.dataset))}
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
        """Run the user's training, if there is any."""
        if plan.train is None:
            return {}
        _run(plan.train, plan, state)
        return {"command": plan.train}

    def evaluate(self, plan: Plan, state: State) -> Mapping[str, Any]:
        """The metric: what the user's command prints, else the accuracy of a probe on the embeddings."""
        if plan.evaluate is None:
            return {"metric": probe_accuracy(plan.dataset, seed=plan.seed, command=self.command), "by": "probe"}
        printed = _run(plan.evaluate, plan, state).strip().rpartition("\n")[2]
        try:
            return {"metric": float(json.loads(printed)[plan.metric]), "by": plan.evaluate}
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"the last line is no JSON object with a number '{plan.metric}': {printed[:_SHOWN]}",
                where=plan.evaluate,
                remedy=f'print {{"{plan.metric}": 0.8}} as the last line',
            ) from None

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


def _run(command: str, plan: Plan, state: State) -> str:
    """Run a command of the user's and give its stdout; its stderr goes where ours goes.

    Raises:
        InputError: It fails.
    """
    values = {"dataset": plan.dataset, "round": state.round, "commit": open_dataset(plan.dataset).commit.number}
    try:
        line = command.format(**values)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            "only {dataset}, {round} and {commit} can be filled in", where=command, remedy="write {{ and }} for braces"
        ) from None
    done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the command ended with status {done.returncode}",
            where=line,
            remedy="mend it; the loop goes on from there",
        )
    return done.stdout
