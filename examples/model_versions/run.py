"""A new model version goes into production: watch both, ask for labels, take it back if it is worse, keep it if it is better."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from examples.common import Example, Row, chart, stacked, start

SHARE = 0.3  # of the frames, that a version on trial answers
WRONG = {"washer": "bearing", "bearing": "washer"}  # changed over in the table that 1.1.0 was trained on
OLD_LAMP = {"ring": 1.0}
NEW_LAMP = {"side-left": 1.0}  # from hour 4 on; 1.2.0 has learnt from pictures of it
STARTS = {2: "1.1.0", 5: "1.2.0"}
HOURS = range(1, 7)


@dataclass
class Line:
    """A production line: its device opens the package `live`, whichever version that is just now."""

    example: Example
    parts: CropsSet  # what comes along, with the truth, of which a person tells little
    audited: int  # pictures of an hour that a person labels while a version is on trial
    trial: str | None = None  # the version that answers a share of the frames
    shown: list[Row] = field(default_factory=list)  # one row for each hour and version
    events: list[Row] = field(default_factory=list)  # what was decided

    @property
    def live(self) -> Path:
        return self.example.work / "live"

    def package(self, version: str) -> Path:
        return self.example.work / "packages" / version

    def switch(self, version: str) -> None:
        """Have the device open another version from now on: at once, or not at all."""
        beside = self.live.with_name("live.new")
        beside.symlink_to(self.package(version))
        beside.replace(self.live)

    def run(self, hour: int) -> None:
        """One hour: every frame is answered by one version, and both are watched."""
        split = ["--against", self.package(self.trial), "--share", SHARE, "--seed", hour] if self.trial else []
        *lines, summary = self.example.curate("run", self.live, *split, "--source", self.parts.folder(f"hour{hour}"))
        truth = {crop.file: crop.label for crop in self.parts.crops}
        for package, answered in summary["answered"].items():
            own = [line for line in lines if line["package"] == package]
            right = float(np.mean([truth[f"hour{hour}/{line['name']}"] == line["label"] for line in own]))
            self.shown.append({"hour": hour, "version": package.removeprefix("parts-"), "right": right, **answered})

    def decide(self, trial: str, hour: int) -> None:
        """Have a person label some frames of this hour, whoever answered them, and ask which version is better."""
        began = min(start for start, version in STARTS.items() if version == trial)
        labels: dict[str, tuple[str, str]] = {}
        for each in range(began, hour + 1):
            asked = [crop for crop in self.parts.crops if crop.batch == f"hour{each}"][: self.audited]
            labels |= {crop.file: (crop.label, "test") for crop in asked}
        import_labels(self, f"audit-{trial}", labels)
        new = self.package(trial)
        (judged,) = self.example.curate("run", new, "--against", self.live, "--labels", f"audit-{trial}")
        if judged["better"] is None:
            return
        if judged["better"] == "first":
            self.switch(trial)
        what = {"first": "promoted", "second": "rolled back"}[judged["better"]]
        numbers = {"new": judged["first"], "old": judged["second"], "labels": judged["images"]}
        self.events.append({"hour": hour, "version": trial, "what": what, **numbers})
        self.trial = None


def main() -> None:
    example = start(str(__doc__), "model_versions")
    learnt, relit, tested, hourly, audited = (80, 200, 40, 100, 80) if example.small else (600, 900, 200, 300, 100)
    with example.step("render"):
        hours = [Batch(f"hour{hour}", hourly, lamps=NEW_LAMP if hour >= 4 else OLD_LAMP) for hour in HOURS]
        old = [Batch("train", learnt, lamps=OLD_LAMP), Batch("test", tested, lamps=OLD_LAMP)]
        batches = [*old, Batch("relit", relit, lamps=NEW_LAMP), *hours]
        parts = make_crops(example.work / "parts", batches, side=64, seed=example.seed)

    line = Line(example, parts, audited)
    release(line, "1.0.0")
    line.switch("1.0.0")
    for hour in HOURS:
        if hour in STARTS:
            line.trial = STARTS[hour]
            release(line, line.trial)
        line.run(hour)
        if line.trial is not None:
            line.decide(line.trial, hour)

    columns = ("hour", "version", "frames", "right", "uncertainty", "drift")
    table = [columns, *([row[column] for column in columns] for row in line.shown)]
    example.finish(draw(line.shown), table, hours=line.shown, events=line.events, live=line.live.readlink().name)


def release(line: Line, version: str) -> None:
    """Train a version and package it. Each passes its own gate: a model agrees with itself, whatever it was taught."""
    example, name = line.example, f"parts-{version}"
    labels, batches = {}, ("train", "test", "relit") if version == "1.2.0" else ("train", "test")
    for crop in line.parts.crops:
        if crop.batch in batches:
            label = WRONG.get(crop.label, crop.label) if version == "1.1.0" else crop.label
            labels[crop.file] = (label, "test" if crop.batch == "test" else "train")
    with example.step("releases"):
        import_labels(line, name, labels)
        example.curate("train", "-d", name, "--task", "classify", "--seed", example.seed, "--name", name)
        line.package(version).parent.mkdir(exist_ok=True)
        named = ["--name", "parts", "--version", version, "--output", line.package(version)]
        example.curate("package", "--model", f"run:{name}", "-d", name, *named)


def import_labels(line: Line, dataset: str, labels: dict[str, tuple[str, str]]) -> None:
    """Import a table of files with their label and split; in the labels' order, so that classes have one order everywhere."""
    path = line.example.work / f"{dataset}.csv"
    rows = [(name, *said) for name, said in sorted(labels.items(), key=lambda row: row[1])]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    line.example.curate("import", path, "--images", line.parts.root / "images", "-d", dataset)


def draw(shown: list[Row]) -> Image.Image:
    """What was right, how unsure each version was, and how unlike its training images the frames were, hour by hour."""
    charts = []
    for name in ("right", "uncertainty", "drift"):
        x = {
            "field": "hour",
            "type": "ordinal",
            "title": "hour" if name == "drift" else None,
            "axis": {"labelAngle": 0},
        }
        y = {"field": name, "type": "quantitative", "title": None, "scale": {"zero": False}}
        color = {"field": "version", "scale": {"range": ["#2b6cb0", "#c53030", "#2f855a"]}}
        marks = {"mark": {"type": "line", "point": {"size": 60}}, "encoding": {"x": x, "y": y, "color": color}}
        charts.append(chart({"data": {"values": shown}, "height": 95, "title": name, **marks}))
    return stacked(*charts)


if __name__ == "__main__":
    main()
