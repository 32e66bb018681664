"""How a dataset's images and objects are spread: exposure, sharpness, size, aspect and classes, as charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.measures.table import MEASURES
from curate.dataset import Dataset
from curate.report.html.charts import Chart, bar_chart, heatmap, histogram
from curate.wording import counted

_BINS: Final = 30
_MOST_CLASSES: Final = 30
_MOST_SPLITS: Final = 5
_CENTRAL: Final = 0.002
"""Part of the images beyond each end of a histogram; they are counted in its outermost bins."""


@dataclass(frozen=True)
class Axis:
    """A measured column and how it is shown.

    Attributes:
        column: Of `curate.checks.measures`.
        title: Of the chart.
        unit: Of its axis, and which end means what.
        factor: From the column to the unit.
    """

    column: str
    title: str
    unit: str
    factor: float = 1.0


MEASURED: Final = (
    Axis("brightness", "Exposure", "mean brightness, 0 black to 100 white", 100),
    Axis("sharpness", "Blur", "octaves of detail kept: -1 sharp, -2 blurred"),
    Axis("contrast", "Contrast", "spread of brightness, 0 flat", 100),
    Axis("noise", "Noise", "standard deviation in % of full scale", 100),
)


def measured_charts(dataset: Dataset) -> list[Chart]:
    """Histograms of what was measured of the images; none if nothing was."""
    table = f"{MEASURES.prefix}-images"
    if table not in dataset.commit.tables:
        return []
    columns = dataset.table(table, columns=[axis.column for axis in MEASURED])
    charts = []
    for axis in MEASURED:
        values = columns[axis.column].to_numpy().astype(np.float64) * axis.factor
        chart = _histogram(values, axis.title, axis.unit)
        charts += [chart] if chart else []
    return charts


def size_charts(images: pa.Table) -> list[Chart]:
    """Histograms of the images' sizes and aspects.

    Args:
        images: Columns width and height.
    """
    known = images.filter(pc.and_(pc.is_valid(images["width"]), pc.is_valid(images["height"])))
    width, height = (known[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    whole = (width > 0) & (height > 0)
    width, height = width[whole], height[whole]
    found = [
        _histogram(width * height / 1e6, "Size of images", "megapixels"),
        _histogram(width / height, "Aspect of images", "width divided by height; below 1 upright"),
    ]
    return [chart for chart in found if chart]


def class_chart(classes: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Objects of each class, by split; None if there are none."""
    if not any(row["objects"] for row in classes):
        return None
    totals: dict[str, int] = {}
    for row in classes:
        for split, count in row["splits"].items():
            totals[split] = totals.get(split, 0) + count
    largest = sorted(totals, key=lambda split: -totals[split])[:_MOST_SPLITS]
    rows = []
    for row in classes[:_MOST_CLASSES]:
        parts = {split: row["splits"].get(split, 0) for split in largest}
        parts["other"] = row["objects"] - sum(parts.values())
        rows += [
            {"name": row["class"], "part": part, "value": count, "says": f"{row['class']}, {part}: {count:,}"}
            for part, count in parts.items()
            if count
        ]
    more = len(classes) - _MOST_CLASSES
    caption = "Labelled objects of each class" + (f"; {counted(more, 'smaller classes')} left out" if more > 0 else "")
    return bar_chart(rows, title="Class balance", unit="objects", caption=caption)


def confusion_chart(rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Classes that are taken for one another; None if there are none.

    Args:
        rows: What `curate.checks.mistakes.confused.confused_classes` gives.
    """
    cells = _cells(
        rows,
        ("given", "probably", "expected_wrong"),
        "labelled {row}, probably {column}: {value:g} expected to be wrong",
    )
    if not cells:
        return None
    return heatmap(
        cells,
        title="Classes confused",
        caption="How many labels are expected to be wrong, by the class they have and the class they probably should have",
        row="labelled",
        column="probably",
        value="expected wrong",
    )


def model_confusion_chart(confusion: Mapping[str, Any]) -> Chart | None:
    """What a model takes for what; None if it makes no mistake.

    Args:
        confusion: One row of what `curate.report.html.rounds.model_confusions` gives.
    """
    counts = confusion["counted"]
    cells = _cells(
        confusion["rows"], ("true", "predicted", "count"), f"{{row}} taken for {{column}}: {{value:,}} {counts}"
    )
    if not cells:
        return None
    return heatmap(
        cells,
        title=f"Confusion of {confusion['layer']}",
        caption=f"How many {counts} of a class the model takes for another; of nothing: made up, for nothing: missed",
        row="true class",
        column="taken for",
        value=counts,
        written=".3~s",
    )


def _cells(rows: Sequence[Mapping[str, Any]], keys: tuple[str, str, str], says: str) -> list[dict[str, Any]]:
    """Cells of a heat map of the largest classes, from rows of two classes and a value."""
    sums: Counter[str] = Counter()
    for row in rows:
        for key in keys[:2]:
            sums[row[key]] += row[keys[2]]
    kept = {name for name, _ in sums.most_common(_MOST_CLASSES)}
    found = [dict(zip(("row", "column", "value"), (row[key] for key in keys), strict=True)) for row in rows]
    return [
        {**cell, "says": says.format(**cell)}
        for cell in found
        if {cell["row"], cell["column"]} <= kept and cell["value"] > 0
    ]


def _histogram(values: npt.NDArray[np.float64], title: str, unit: str) -> Chart | None:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [_CENTRAL, 1 - _CENTRAL])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    counts = np.histogram(values.clip(low, high), edges)[0]
    said = f"{counted(len(values), 'images')}; half of them between {{:.3g}} and {{:.3g}}, middle {{:.3g}}"
    quarters = np.quantile(values, [0.25, 0.75, 0.5])
    return histogram(counts.tolist(), edges.tolist(), title=title, unit=unit, caption=said.format(*quarters))
