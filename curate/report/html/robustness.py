"""What training with synthetic images brought, and how far models hold as images get worse: `augment --prove` and `stress`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from curate.augment.prove.store import stored_proofs
from curate.augment.stress import STRESS
from curate.dataset import Dataset
from curate.report.html.charts import COLORS, Chart, bar_chart, line_chart
from curate.report.html.values import cut, short_number

if TYPE_CHECKING:
    from curate.augment.stress.curves import Curve, Stress

_MOST_PROOFS: Final = 100
_MOST_MODELS: Final = 3
_MOST_LINES: Final = len(COLORS)


def proof_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Two rows at most for each proof, JSON-ready: on the target and elsewhere; the newest proof first."""
    return [
        {
            "commit": proof.commit,
            "target": cut(proof.target),
            "part": effect.part,
            "metric": proof.metric,
            "images": effect.images,
            "synthetic": proof.synthetic,
            "seeds": proof.seeds,
            "before": short_number(effect.before),
            "after": short_number(effect.after),
            "gain": short_number(effect.gain),
            "low": short_number(effect.low),
            "high": short_number(effect.high),
            "verdict": effect.verdict,
        }
        for proof in reversed(stored_proofs(dataset)[-_MOST_PROOFS:])
        for effect in proof.effects
    ]


def newest_stress(dataset: Dataset) -> list[Stress]:
    """The newest run of `curate stress` for each model, layer and metric; the newest first, and only a few."""
    if STRESS not in dataset.commit.tables:
        return []  # and albumentations, which takes seconds to import, is not
    from curate.augment.stress.store import stored_stress

    newest = {(each.model, each.layer, each.metric): each for each in stored_stress(dataset)}
    return sorted(newest.values(), key=lambda each: (-each.commit, each.model))[:_MOST_MODELS]


def stress_rows(found: Sequence[Stress]) -> list[dict[str, Any]]:
    """One group for each run, JSON-ready: what was measured, and a row for each corruption, the one that costs most first."""
    return [
        {
            "model": cut(each.model),
            "commit": each.commit,
            "metric": each.metric,
            "chosen": cut(each.chosen),
            "clean": short_number(each.clean.value),
            "max_drop": each.max_drop,
            "rows": [
                {
                    "corruption": curve.corruption,
                    "kept": short_number(curve.kept),
                    "at_worst": short_number(curve.points[-1].value) if curve.points else None,
                    "breaks_at": curve.breaks_at,
                    "sure": curve.sure,
                    "recipes": list(curve.recipes) if curve.breaks_at is not None else [],
                }
                for curve in _worst_first(each)
            ],
        }
        for each in found
    ]


def stress_charts(found: Sequence[Stress]) -> list[Chart]:
    """For each run what is left of the metric by corruption, and the curves of those that cost most; none without a curve."""
    charts = []
    for each in found:
        curves = _worst_first(each)
        if curves:
            charts += [_kept_chart(each, curves), _curve_chart(each, curves[:_MOST_LINES])]
    return charts


def _worst_first(result: Stress) -> list[Curve]:
    known = [curve for curve in result.curves if curve.kept is not None]
    return sorted(known, key=lambda curve: (curve.kept or 0.0, curve.corruption))


def _kept_chart(result: Stress, curves: Sequence[Curve]) -> Chart:
    return bar_chart(
        [
            {
                "name": curve.corruption,
                "part": "kept",
                "value": round(100 * (curve.kept or 0.0), 1),
                "says": f"{curve.corruption}: {curve.kept or 0.0:.0%} kept",
            }
            for curve in curves
        ],
        title=f"What {cut(result.model)} keeps",
        unit=f"% of the clean {result.metric}",
        caption=f"Mean over the severities of each corruption, on {result.chosen}; {result.metric} of the images as they are is "
        f"{result.clean.value or 0.0:.3g}",
    )


def _curve_chart(result: Stress, curves: Sequence[Curve]) -> Chart:
    rows = [
        {
            "x": point.severity,
            "y": round(point.value, 4),
            "series": curve.corruption,
            "says": f"{curve.corruption} at {point.severity:g}: {result.metric} {point.value:.3f}",
        }
        for curve in curves
        for point in (result.clean, *curve.points)
        if point.value is not None
    ]
    return line_chart(
        rows,
        title=f"Where {cut(result.model)} breaks",
        caption="The corruptions that cost most, from the images as they are (0) to about the worst that cameras deliver (1)",
        x="severity",
        y=result.metric,
        tick=0.2,
        from_zero=True,
    )
