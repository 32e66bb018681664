"""What has happened to a dataset: its commits, what evaluations came to, and what changed since a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from curate.checks.evaluation.store import stored_evaluations
from curate.dataset import Dataset, open_dataset, read_history
from curate.dataset.difference import difference
from curate.redaction import redact
from curate.report.html.charts import Chart, line_chart
from curate.report.html.values import short_number

_MOST_COMMITS: Final = 200
_MOST_CONFUSIONS: Final = 4
_MOST_ROWS: Final = 200
_COUNTED: Final = {"classify": "images", "segment": "pixels"}
"""What a confusion counts, by task; in any other, objects."""
_MAIN: Final = ("AP", "AP50", "mIoU", "accuracy", "macro_F1", "F1")
"""Metrics that a chart shows, the first of them that a model has."""


def history_rows(dataset: Dataset) -> tuple[list[dict[str, Any]], int]:
    """The newest commits up to the dataset's own, and how many there are in all. Commands are without secrets and home folder."""
    commits = [each for each in read_history(dataset.path) if each.number <= dataset.commit.number]
    rows = [
        {
            "commit": each.number,
            "time": each.time,
            "command": without_home(redact(each.command)),
            "changes": dict(each.counts),
            "restores": each.restores,
        }
        for each in commits[:_MOST_COMMITS]
    ]
    return rows, len(commits)


def evaluation_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """One row for each evaluation: commit, layer, task, images, its metrics, and the main one against the one before."""
    rows: list[dict[str, Any]] = []
    before: dict[tuple[Any, ...], float] = {}
    for each in stored_evaluations(dataset):
        metrics = {name: value for name, value in each["metrics"].items() if isinstance(value, int | float)}
        main = main_metric(metrics)
        value = metrics.get(main) if main else None
        asked = (each["task"], each["labels"], each["where"], main)
        gain = None if value is None or asked not in before else round(value - before[asked], 4)
        if value is not None:
            before[asked] = value
        rows.append(
            {
                "commit": each["commit"],
                "layer": each["layer"],
                "task": each["task"],
                "where": each["where"],
                "images": each["images"],
                "metric": main,
                "value": None if value is None else round(value, 4),
                "gain": gain,
                "slices": _slice_values(each["slices"], main),
            }
        )
    return rows


def model_confusions(dataset: Dataset) -> list[dict[str, Any]]:
    """What each model takes for what, by its newest evaluation: layer, commit, task, where, images, what is counted, and rows.

    A row has the true and the predicted class, the count, and its share of the true class; the most frequent first. Models
    that make no mistake have none.
    """
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in stored_evaluations(dataset):
        if each["confusion"]:
            newest[each["layer"], each["task"]] = each
    found = []
    for each in sorted(newest.values(), key=lambda row: -row["commit"])[:_MOST_CONFUSIONS]:
        counted = _COUNTED.get(each["task"], "objects")
        rows = [
            {
                "true": row["true"],
                "predicted": row["predicted"],
                "count": row[counted],
                "share": short_number(row["share_of_true"]),
            }
            for row in each["confusion"][:_MOST_ROWS]
        ]
        about = {name: each[name] for name in ("layer", "commit", "task", "where", "images")}
        found.append({**about, "counted": counted, "rows": rows})
    return found


def main_metric(metrics: Mapping[str, float]) -> str | None:
    """The one number that says most of a model; None if there is none."""
    return next((name for name in _MAIN if name in metrics), next(iter(metrics), None))


def evaluation_chart(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The main metric over the commits; None with fewer than two of one kind."""
    values = [row for row in rows if row["value"] is not None]
    if len({row["commit"] for row in values}) < 2:
        return None
    return line_chart(
        [
            {
                "x": row["commit"],
                "y": row["value"],
                "series": f"{row['layer']}, {row['metric']}",
                "says": f"commit {row['commit']}, {row['layer']}: {row['metric']} {row['value']:g}",
            }
            for row in values
        ],
        title="Models over the commits",
        caption="What 'curate evaluate' measured, by the commit whose labels it was measured on",
        x="commit",
        y="value",
    )


def changes_since(dataset: Dataset, commit: int) -> list[dict[str, Any]]:
    """What was added, changed and removed since a commit: table, what, how many, and of which class, split or kind.

    Raises:
        DatasetNotFound: There is no such commit.
    """
    result = difference(open_dataset(dataset.name, commit=commit), dataset, examples=0)
    rows = []
    for table in ("images", "annotations", "findings"):
        for what, part in result.get(table, {}).items():
            if part["count"]:
                by = next(value for key, value in part.items() if key.startswith("by_"))
                rows.append({"table": table, "what": what, "count": part["count"], "by": by})
    return rows


def without_home(text: str) -> str:
    """A command line that does not tell whose machine it was typed on."""
    home = str(Path.home())
    return text if home == Path.home().anchor else text.replace(home, "~")


def _slice_values(slices: Any, main: str | None) -> list[tuple[str, float]]:
    """The main metric on every slice that was asked for."""
    found = []
    for name, value in slices.items() if isinstance(slices, dict) else ():
        number = value.get(main) if isinstance(value, dict) else value
        if isinstance(number, int | float):
            found.append((str(name), round(float(number), 4)))
    return found
