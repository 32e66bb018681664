"""What a user asks to push, as a plan."""

from __future__ import annotations

from typing import Final

from curate.checks.findings import Finding
from curate.checks.store import stored_findings
from curate.connectors.sync.push import PushPlan
from curate.dataset import open_dataset
from curate.dataset.query import in_layer
from curate.dataset.synthetic import real_only
from curate.errors import UsageError
from curate.names import GROUND_TRUTH

_ASKABLE: Final = ("open", "confirmed", "queued")


def plan_push(
    name: str,
    *,
    findings: str | None = None,
    where: str | None = None,
    selected: dict[str, float] | None = None,
    limit: int | None = None,
    predictions: str | None = None,
) -> PushPlan:
    """Choose what to push.

    Args:
        name: The dataset.
        findings: SQL condition on findings; those that are decided are left out.
        where: SQL condition on images; synthetic ones go only where it speaks of them. With `findings`, both must hold.
        selected: Images chosen beforehand, with their priorities; with the others, all must hold.
        limit: How many findings at most; without findings, how many images.
        predictions: Layer to send with new images.

    Raises:
        UsageError: Nothing is chosen, or there is no such layer.
    """
    dataset = open_dataset(name)
    if predictions is not None and not dataset.count("annotations", where=in_layer(predictions)):
        layers = dataset.table("annotations", columns=["layer"])["layer"].unique().to_pylist()
        others = ", ".join(sorted(set(layers) - {GROUND_TRUTH})) or "there are none"
        raise UsageError(f"there is no layer '{predictions}'", where=name, remedy=f"layers of predictions: {others}")
    images = None
    if where is not None or selected is not None:
        chosen_images = dataset.table("images", columns=["image_id"], where=real_only(dataset, where))
        images = chosen_images["image_id"].to_pylist()
    if selected is not None:
        there = set(images or ())
        images = [each for each in sorted(selected, key=lambda each: -selected[each]) if each in there]
    if findings is None:
        chosen = images if images is None or limit is None else images[:limit]
        if chosen == []:
            raise UsageError("no image is chosen", where=name, remedy="check --where, or run 'curate select' first")
        return PushPlan(images=chosen or (), priority=selected or {}, predictions=predictions)
    within = None if images is None else set(images)
    asked = [
        each
        for each in stored_findings(dataset, where=findings)
        if each.status in _ASKABLE and (within is None or each.image_id in within)
    ]
    if not asked:
        raise UsageError("no open finding is chosen", where=name, remedy="'curate findings' lists them")
    return _of_findings(asked[:limit], predictions)


def _of_findings(findings: list[Finding], predictions: str | None) -> PushPlan:
    priority: dict[str, float] = {}
    for finding in findings:
        priority[finding.image_id] = max(priority.get(finding.image_id, 0.0), finding.score)
    images = sorted(priority, key=lambda image_id: -priority[image_id])
    return PushPlan(images, priority, findings, predictions)
