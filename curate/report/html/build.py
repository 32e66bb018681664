"""Make a report: collect what is known of a dataset, have pictures made for what is left of the room, and write one file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from curate import __version__
from curate.checks.findings import FLAGGED, Finding, require_probability
from curate.checks.mistakes.confused import confused_classes
from curate.checks.shift.stored import Slice, read_slices
from curate.dataset import Dataset
from curate.dataset.folders import now
from curate.dataset.query import in_layer
from curate.errors import UsageError
from curate.files import writable_file, write_atomic
from curate.names import GROUND_TRUTH
from curate.report.html.cards import (
    Cards,
    Names,
    Shapes,
    choose_findings,
    image_ids_of,
    make_cards,
    read_shapes,
    read_sources,
)
from curate.report.html.charts import Chart
from curate.report.html.decisions import FORMAT
from curate.report.html.distributions import (
    class_chart,
    confusion_chart,
    measured_charts,
    model_confusion_chart,
    size_charts,
)
from curate.report.html.limits import MAX_BYTES, MOST_FINDINGS
from curate.report.html.page import is_report, make_page
from curate.report.html.pictures import Made, Source, Wanted, make_pictures
from curate.report.html.places import Places, place_images
from curate.report.html.robustness import newest_stress, proof_rows, stress_charts, stress_rows
from curate.report.html.rounds import (
    changes_since,
    evaluation_chart,
    evaluation_rows,
    history_rows,
    model_confusions,
)
from curate.report.html.setups import cluster_rows, clusters_of
from curate.report.html.summary import count_classes, count_findings, count_leaks, count_slices, count_splits
from curate.wording import counted

_PLACES_WITH_PICTURES: Final = 600
_TEXT_SHARE: Final = 0.6
"""Part of the room for cards that may be text: without pictures few findings can be judged."""
_TRIES: Final = 4
_MOST_ROWS: Final = 200
_HEAD: Final = 4096


@dataclass(frozen=True)
class Choice:
    """What a report is to show.

    Attributes:
        where: SQL condition on the findings; None for all.
        min_score: Findings with a lower score are left out.
        most: How many findings get a card.
        max_bytes: Size of the file.
        since: Number of a commit to compare with; None for none.
        rounds: What each round of a loop cost and gained: what `curate.loop.machine.rounds` gives, with the loop's name.
        seed: Of everything random.
    """

    where: str | None = None
    min_score: float = 0.0
    most: int = MOST_FINDINGS
    max_bytes: int = MAX_BYTES
    since: int | None = None
    rounds: Sequence[Mapping[str, Any]] = ()
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The file.
        bytes: Its size.
        findings: How many findings have a card.
        all_findings: Out of how many.
        pictures: How many pictures are in it.
        wanted_pictures: Out of how many.
        notes: What was left out, and what the dataset does not tell; one sentence each.
    """

    path: Path
    bytes: int
    findings: int
    all_findings: int
    pictures: int
    wanted_pictures: int
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**vars(self), "path": str(self.path), "notes": list(self.notes)}


@dataclass
class _Content:
    """What a report shows, before its pictures are made."""

    data: dict[str, Any]
    charts: dict[str, list[Chart]]
    wanted: Wanted
    notes: list[str] = field(default_factory=list)

    def page(self, title: str, pictures: Sequence[Any], notes: Sequence[str]) -> bytes:
        return make_page(title, {**self.data, "pictures": pictures, "notes": list(notes)}, self.charts).encode()


@dataclass(frozen=True)
class _Read:
    """What is read of the dataset once, however many cards there will be.

    Attributes:
        shapes: The annotations that findings with a card speak of.
        sources: The images that those speak of, and those on the map.
        places: The map.
        slices: What `curate shift` found.
    """

    shapes: Shapes
    sources: Mapping[str, Source]
    places: Places | None
    slices: Mapping[str, Slice]


def write_report(
    dataset: Dataset, path: Path, choice: Choice, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Write a report of a dataset as one HTML file.

    Args:
        dataset: The commit that is shown.
        path: The file; an older report is replaced, anything else is not.
        choice: What to show.
        progress: Told (done, total) while pictures are made.

    Raises:
        UsageError: The file is there and no report, the condition cannot be understood, or the size is too small for any
            report of this dataset.
        DatasetNotFound: There is no commit of the number to compare with.
    """
    _require_replaceable(path)
    require_probability(choice.min_score, "--min-score")
    findings = _read_findings(dataset, choice)
    title = f"{dataset.name}: what curate found"
    content, shown = _fitting(dataset, findings, choice, title)
    text = len(content.page(title, [None] * len(content.wanted.windows), [*content.notes, " " * 600]))
    room = choice.max_bytes - text
    if room < 0:
        raise UsageError(
            f"a report of this dataset takes {text / 1e6:.1f} MB without one picture",
            where="--max-mb",
            # The cards are as few as can be by now, and with more room there are no more than fit.
            remedy=f"--max-mb {math.ceil(text / 1e5) / 10:.1f} or more; the pictures come on top of that",
        )
    made = make_pictures(content.wanted, room, progress=progress)
    notes = [*content.notes, *_picture_notes(made)]
    page = content.page(title, [each or 0 for each in made.encoded], notes)
    write_atomic(path, page)
    count = sum(each is not None for each in made.encoded)
    return Report(path, len(page), shown, findings.num_rows, count, len(made.encoded), notes)


def _require_replaceable(path: Path) -> None:
    """Refuse to write over what is no report, or no file at all."""
    target = writable_file(path)
    if not target.parent.is_dir():
        raise UsageError("the folder is not there", where=target.parent, remedy="make it first")
    if target.exists() and target.stat().st_size:
        with target.open("rb") as file:
            if not is_report(file.read(_HEAD)):
                raise UsageError("the file is there, and is no report", where=path, remedy="give another --output")


def _read_findings(dataset: Dataset, choice: Choice) -> pa.Table:
    conditions = [f"({choice.where})"] if choice.where else []
    if choice.min_score > 0:
        conditions.append(f"score >= {choice.min_score}")
    return dataset.table("findings", where=" AND ".join(conditions) or None)


def _fitting(dataset: Dataset, findings: pa.Table, choice: Choice, title: str) -> tuple[_Content, int]:
    """The content with as many cards as leave room for pictures, and their number."""
    slices = read_slices(dataset)
    base = _base(dataset, findings, slices, choice)
    most = min(choice.most, findings.num_rows)
    fixed = len(base.page(title, [], base.notes))
    share = _TEXT_SHARE * max(0, choice.max_bytes - fixed)
    read = _read(dataset, choose_findings(findings, most), slices, choice.seed)
    for _ in range(_TRIES):
        # Fewer findings are some of more: all that they speak of has been read.
        content, shown = _with_cards(base, choose_findings(findings, most), read)
        text = len(content.page(title, [], [])) - fixed
        if text <= share or shown <= 1:
            break
        most = max(1, int(0.9 * shown * share / text))
    if shown < findings.num_rows:
        content.notes.insert(
            0,
            f"{shown:,} of {counted(findings.num_rows, 'findings')} have a card, the most probable of each kind; the counts "
            "are of all",
        )
    return content, shown


def _read(dataset: Dataset, findings: Sequence[Finding], slices: Mapping[str, Slice], seed: int) -> _Read:
    places = place_images(dataset, {each.image_id for each in findings}, seed=seed)
    shapes = read_shapes(dataset, findings)
    shown = [*image_ids_of(findings, shapes), *(places.ids if places else ())]
    return _Read(shapes, read_sources(dataset, shown), places, slices)


def _base(dataset: Dataset, findings: pa.Table, slices: Mapping[str, Slice], choice: Choice) -> _Content:
    """All that does not depend on how many cards there are."""
    images = dataset.table("images", columns=["image_id", "path", "width", "height", "split"])
    classes = count_classes(dataset, findings, images)
    confusions, of_models = confused_classes(findings), model_confusions(dataset)
    evaluations = evaluation_rows(dataset)
    history, commits = history_rows(dataset)
    found = class_chart(classes), confusion_chart(confusions), evaluation_chart(evaluations)
    charts = {name: [chart] for name, chart in zip(("classes", "confusion", "models"), found, strict=True) if chart}
    charts["taken"] = [chart for chart in map(model_confusion_chart, of_models) if chart]
    measured = measured_charts(dataset)
    charts["spread"] = [*measured, *size_charts(images)]
    stress = newest_stress(dataset)
    charts["robustness"] = stress_charts(stress)
    data = {
        "format": FORMAT,
        "dataset": dataset.name,
        "commit": dataset.commit.number,
        "commit_time": dataset.commit.time,
        "made": now(),
        "version": __version__,
        "images": images.num_rows,
        "objects": dataset.count("annotations", where=in_layer(GROUND_TRUTH)),
        "splits": count_splits(images),
        "findings": findings.num_rows,
        "flagged_from": FLAGGED,
        "where": choice.where,
        "min_score": choice.min_score,
        "kinds": count_findings(findings),
        "classes": classes,
        "confusions": confusions[:_MOST_ROWS],
        "taken": of_models,
        "leaks": count_leaks(findings),
        "slices": count_slices(findings, slices)[:_MOST_ROWS],
        "clusters": cluster_rows(slices)[:_MOST_ROWS],
        "evaluations": evaluations,
        "rounds": [dict(row) for row in choice.rounds],
        "proofs": proof_rows(dataset),
        "stress": stress_rows(stress),
        "history": history,
        "commits": commits,
        "since": choice.since,
        "changes": [] if choice.since is None else changes_since(dataset, choice.since),
    }
    return _Content(data, charts, Wanted({}), _base_notes(dataset, images, measured))


def _base_notes(dataset: Dataset, images: pa.Table, measured: Sequence[Chart]) -> list[str]:
    notes = []
    if missing := images["path"].null_count:
        notes.append(f"{counted(missing, 'images')} have no file here, and no picture")
    if not dataset.count("findings"):
        notes.append("nothing was looked for yet: 'curate check' does")
    if not measured:
        notes.append("exposure and blur were not measured: 'curate quality' does")
    return notes


def _with_cards(base: _Content, chosen: Sequence[Finding], read: _Read) -> tuple[_Content, int]:
    """The content with cards of the findings that were chosen, and with the map."""
    wanted, names = Wanted(read.sources), Names(read.sources)
    cards = make_cards(chosen, read.shapes, names, wanted)
    notes = list(base.notes)
    places = read.places
    drawn = _map_data(places, read.slices, names, wanted)
    if places is None:
        notes.append("there is no map, for nothing is embedded: 'curate embed', then 'curate shift --map'")
    elif len(places.ids) < places.total:
        notes.append(f"{len(places.ids):,} of {counted(places.total, 'images')} are on the map")
    data = {**base.data, "map": drawn, **_card_data(cards, names), "shapes": _ratios(wanted)}
    return _Content(data, base.charts, wanted, notes), len(chosen)


def _card_data(cards: Cards, names: Names) -> dict[str, Any]:
    return {
        "cards": cards.cards,
        "groups": cards.groups,
        "names": names.locations,
        "split_of": names.splits,
    }


def _map_data(
    places: Places | None, slices: Mapping[str, Slice], names: Names, wanted: Wanted
) -> dict[str, Any] | None:
    """The map with an image and, of some, a picture for each point."""
    if places is None:
        return None
    numbers: list[int] = []
    pictures: list[int | None] = []
    step = -(-len(places.ids) // _PLACES_WITH_PICTURES)
    for place, image_id in enumerate(places.ids):
        source = wanted.sources.get(image_id)
        numbers.append(names.number(image_id, source.location if source else image_id))
        # Of an image with a card there is another picture to show.
        pictures.append(None if place % step else wanted.want(image_id))
    clusters = clusters_of(places.ids, slices)
    return {**places.to_json(), "images": numbers, "pictures": pictures, "clusters": clusters}


def _ratios(wanted: Wanted) -> list[int]:
    """Height of each picture in thousandths of its width, known before it is loaded."""
    return [round(1000 * window[3] / window[2]) for _, window in wanted.windows]


def _picture_notes(made: Made) -> list[str]:
    notes = []
    if made.beyond:
        notes.append(
            f"{made.beyond:,} of {counted(len(made.encoded), 'pictures')} were left out to keep the file small; "
            f"of those in it all but the first are {made.side} pixels long at most"
        )
    if made.unreadable:
        notes.append(f"{counted(made.unreadable, 'pictures')} could not be read; the first: {made.first_unreadable}")
    return notes
