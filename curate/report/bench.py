"""What `curate bench` measured, as tables."""

from __future__ import annotations

from rich.table import Table

from curate.edge.bench.devices import Estimate
from curate.edge.bench.job import STAGES
from curate.edge.bench.measure import Measured, percentiles
from curate.edge.bench.run import Report
from curate.report.terminal import console
from curate.wording import printable

_MB = 1 << 20


def print_bench(report: Report) -> None:
    """Print speed, where the time goes, memory, and what may be expected elsewhere."""
    out = console()
    out.print(_speed(report))
    out.print(_parts(report))
    for folder, estimates in report.estimates.items():
        work = report.work[folder]
        name = next(
            label for label, each in zip(report.labels, report.measured, strict=True) if each.subject.package == folder
        )
        table = Table(title=printable(f"inference on other devices, estimated on paper, not measured: {name}"))
        for column in ("device", "perhaps, ms", "at best, ms", "rests on"):
            table.add_column(column, justify="right" if "ms" in column else "left")
        for each in estimates:
            table.add_row(each.device.name, *_times(each), each.note)
        out.print(table)
        said = f"one image: {work.float_ops / 1e9:.3g} G float and {work.int8_ops / 1e9:.3g} G 8-bit operations"
        out.print(
            f"{said}, {work.weights / _MB:.1f} MB of weights, {work.activations / _MB:.1f} MB moved between layers"
        )
    for line in report.notes:
        out.print(printable(line), soft_wrap=True)


def _speed(report: Report) -> Table:
    table = Table(title="from file to result, ms a call")
    columns = ("package", "by", "threads", "batch", "p50", "p95", "p99", "images/s", "of the first", "peak MB")
    for column in columns:
        table.add_column(column, justify="left" if column in ("package", "by") else "right")
    for label, each in zip(report.labels, report.measured, strict=True):
        times = percentiles(each.latency)
        subject = each.subject
        table.add_row(
            printable(label),
            subject.backend,
            str(subject.threads),
            str(subject.batch),
            *(f"{times[name]:.2f}" for name in ("p50", "p95", "p99")),
            f"{each.throughput:.1f}",
            _ratio(each.against_first()),
            _memory(each),
        )
    return table


def _parts(report: Report) -> Table:
    table = Table(title="where the time goes, ms an image, p50")
    parts = ("decode", "pre-process", "inference", "post-process", "CPU")
    titles = ("package", "by", "batch", *parts, "inference of the first", "calls")
    for column in titles:
        table.add_column(column, justify="left" if column in ("package", "by") else "right")
    for label, each in zip(report.labels, report.measured, strict=True):
        said = each.to_json()
        times = [said["stages_ms"][name]["p50"] / each.subject.batch for name in STAGES]
        numbers = [f"{value:.2f}" for value in (*times, said["cpu_ms_per_image"])]
        subject, ratio = each.subject, _ratio(each.against_first(("infer",)))
        table.add_row(printable(label), subject.backend, str(subject.batch), *numbers, ratio, str(said["calls"]))
    return table


def _ratio(value: tuple[float, float, float]) -> str:
    """A ratio with its interval."""
    middle, low, high = value
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _times(estimate: Estimate) -> tuple[str, str]:
    """What inference may take, and what it takes at best."""
    if estimate.low is None or estimate.high is None or estimate.at_best is None:
        return "-", "-"
    return f"{1e3 * estimate.low:.3g} to {1e3 * estimate.high:.3g}", f"{1e3 * estimate.at_best:.3g}"


def _memory(measured: Measured) -> str:
    if not measured.fits:
        return "does not fit"
    return "-" if measured.peak is None else f"{measured.peak / _MB:.0f}"
