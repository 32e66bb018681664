"""`harvest://FOLDER`: hard frames from a device into a dataset, with what the package said of them and why they were kept.

One commit: the frames that are new become images, those that look like an image the dataset has (or like a harder one of the
same harvest) are left out and counted, predictions go to `predictions/NAME-VERSION`, and each frame is a finding of kind
`hard`. What was left out is remembered, so the same harvest can be imported again, while the device still writes to it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.duplicates.dataset import IMAGE_COLUMNS, dataset_pairs
from curate.checks.duplicates.pairs import NEAR, Pairs
from curate.checks.findings import Finding
from curate.checks.graph import components
from curate.checks.store import replace_findings
from curate.dataset.ids import image_ids
from curate.dataset.query import quote
from curate.dataset.store import EMBEDDINGS, Transaction, begin, open_dataset
from curate.edge.harvest.entry import SUFFIXES, Entry, read_entry, require_classes
from curate.edge.harvest.ring import Stored, read_packages, ring_id, stored_entries
from curate.errors import FormatError, InputError, UsageError
from curate.files import write_atomic
from curate.formats.base import ClassInfo, ReadOptions
from curate.formats.collect import Collector
from curate.formats.importing import ImportResult, store_classes
from curate.formats.losses import LossReport
from curate.formats.source_files import folder_of_commit
from curate.models.passes import Progress
from curate.models.predictors.base import Classes, ClassMap, Objects, Prediction
from curate.models.predictors.class_names import match_classes
from curate.models.predictors.layers import write_predictions
from curate.names import PREDICTIONS, is_layer_name

SCHEME: Final = "harvest://"
CHECK: Final = "harvest"
"""What the findings say that they were found by; also the key of the dataset's info that remembers what was left out."""

BURST_PAUSE: Final = 10.0
"""Seconds: frames of a live source that are this far apart, or farther, are two samples of the world."""

BURST_LENGTH: Final = 60.0
"""Seconds after which a new burst begins, or a scene that stays hard all day would be one sample."""

_COMPUTED: Final = ("measures/", EMBEDDINGS)


def folder_of(address: str) -> Path:
    """The folder in ``harvest://FOLDER``, relative to the current one unless it begins with a slash.

    Raises:
        UsageError: There is none.
    """
    text = address.removeprefix(SCHEME).strip()
    if not text:
        raise UsageError("an address without a folder", where=address, remedy=f"for example {SCHEME}harvest")
    return Path(text).expanduser().absolute()


def import_harvest(
    name: str,
    address: str,
    *,
    options: ReadOptions,
    strict: bool = False,
    command: str,
    progress: Progress | None = None,
) -> ImportResult:
    """Import what a device has kept; importing again takes only what is new.

    Args:
        name: The dataset, made if it is not there.
        address: ``harvest://FOLDER``, or the folder.
        options: Split of the new images.
        strict: Raise at the first thing that would be left out; nothing is then written.
        command: The command line, for the history.
        progress: Told (done, total) while images are compared.

    Raises:
        UsageError: There is no harvest in the folder.
        FormatError: It has no frames that can be read, or (with `strict`) something would be left out.
        DatasetLocked: Another process is writing to the dataset.
    """
    folder = folder_of(address)
    ring = ring_id(folder)
    losses = LossReport(strict=strict)
    with begin(name, command=command, create=True) as transaction:
        there = stored_entries(folder)
        new = _unknown(transaction, ring, there)
        if not there and not transaction.base.commit.number:
            raise FormatError("the harvest has no frames yet", where=folder, remedy="import it when it has some")
        files = transaction.base.path / "files" / f"harvest-{ring}-{transaction.number}"
        if new:
            with folder_of_commit(transaction, files):
                packages = read_packages(folder)
                frames = _take(new, ring, files, packages, losses)
                images = _store_images(transaction, frames, bursts(transaction, ring, frames), options, losses)
                copies = _copies(transaction, images, frames, progress)
                kept = _leave_out(transaction, frames, copies, losses)
                _store_predictions(transaction, kept, packages, losses)
                _store_findings(transaction, kept)
            _remember(transaction, ring, there, [frames[row] for row in copies])
        if not transaction.base.commit.number and not transaction.counts:
            raise FormatError("not one frame can be read", where=folder, remedy="copy the harvest again")
    return ImportResult("harvest", None, losses, transaction.counts, open_dataset(name).commit.number, {})


@dataclass(frozen=True)
class _Frame:
    """A frame in hand, and the image that it becomes."""

    entry: Entry
    location: str
    image_id: str
    path: Path


def _unknown(transaction: Transaction, ring: str, there: Sequence[Stored]) -> list[Stored]:
    """The entries that are no images of the dataset, and were not left out by an earlier import."""
    left_out = set(transaction.info.get(CHECK, {}).get(ring, ()))
    known = set(transaction.read("images", columns=["image_id"])["image_id"].to_pylist())
    return [
        each
        for each in there
        if each.id not in left_out
        and known.isdisjoint(image_ids([_location(ring, each.id, suffix) for suffix in SUFFIXES]).to_pylist())
    ]


def _location(ring: str, entry: str, suffix: str) -> str:
    """Name of an entry's image."""
    return f"harvest/{ring}/{entry}{suffix}"


def _take(
    new: Sequence[Stored], ring: str, files: Path, packages: Mapping[str, Mapping[str, Any]], losses: LossReport
) -> list[_Frame]:
    """Read and check entries and copy their pictures; those that are gone or damaged are counted."""
    frames = []
    for stored in new:
        try:
            entry = read_entry(stored.folder)
            if entry.id != stored.id:
                raise InputError("the entry is damaged: it is another's", where=stored.folder)
            for key, second in ((entry.context.package, False), (entry.context.other_package, True)):
                if key is not None and key in packages:
                    require_classes(entry, second, len(packages[key]["classes"]))
        except FileNotFoundError:
            gone = not stored.folder.exists()
            reason = "the device let go of it meanwhile" if gone else "the entry is damaged: a file is missing"
            losses.dropped("images", reason, stored.folder)
            continue
        except InputError as error:
            losses.dropped("images", error.what, stored.folder)
            continue
        path = files / f"{stored.id}{entry.suffix}"
        files.mkdir(parents=True, exist_ok=True)
        write_atomic(path, entry.image)
        entry = replace(entry, image=b"")  # many together would not fit into memory
        location = _location(ring, stored.id, entry.suffix)
        frames.append(_Frame(entry, location, image_ids([location])[0].as_py(), path))
    return frames


def _store_images(
    transaction: Transaction,
    frames: Sequence[_Frame],
    groups: Sequence[str | None],
    options: ReadOptions,
    losses: LossReport,
) -> pa.Table:
    """Add the frames to the transaction's images; all images of it, with the columns that a comparison wants."""
    collector = Collector(options, losses)
    for frame, group in zip(frames, groups, strict=True):
        context = frame.entry.context
        live = context.seconds is not None
        collector.image(
            frame.location,
            frame.path,
            size=(frame.entry.size[1], frame.entry.size[0]),
            group=group,
            frame=context.number if live else None,
            timestamp=context.time,
            metadata={"source": context.source, "name": context.name, "package": context.package},
        )
    if frames:
        transaction.append("images", [collector.records().images])
    return transaction.read("images", columns=list(IMAGE_COLUMNS))


def bursts(transaction: Transaction, ring: str, frames: Sequence[_Frame]) -> list[str | None]:
    """Which frames belong together, as one sample of the world: a name for each; None for an image of a folder.

    Of a live source, those that follow one another within `BURST_PAUSE`, for at most `BURST_LENGTH`, are one burst; frames that
    an earlier import brought count. Those of a video file are one group. Names tell rings apart; two devices have one 'camera:0'.
    """
    columns = ["location", "group", "timestamp", "metadata"]
    where = f'starts_with(location, {quote(f"harvest/{ring}/")}) AND "group" IS NOT NULL'
    known = [
        (row["timestamp"], row["group"], json.loads(row["metadata"] or "{}").get("source"))
        for row in transaction.snapshot().table("images", columns=columns, where=where).to_pylist()
    ]
    found: list[str | None] = [None] * len(frames)
    places: dict[str, list[int]] = defaultdict(list)
    for row, frame in enumerate(frames):
        if frame.entry.context.seconds is not None:
            places[frame.entry.context.source].append(row)
    for source, rows in places.items():
        label = f"{source} ({ring})"
        if not _is_live(source):
            for row in rows:
                found[row] = label
            continue
        before = [(time, group) for time, group, its in known if its == source and time is not None]
        times = [(frames[row].entry.context.time, row) for row in rows]
        for row, group in _grouped(times, before, label).items():
            found[row] = group
    return found


def _grouped(times: Sequence[tuple[float, int]], known: Sequence[tuple[float, str]], label: str) -> dict[int, str]:
    """The burst of each row, whose times are given, among frames whose bursts are known."""
    found: dict[int, str] = {}
    last, begun, group = -np.inf, -np.inf, ""
    line = [(time, -1, its) for time, its in known] + [(time, row, "") for time, row in times]
    for time, row, its in sorted(line):
        if its and its != group:
            begun, group = time, its
        elif not its and (time - last >= BURST_PAUSE or time - begun >= BURST_LENGTH):
            moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
            begun, group = time, f"{label} {moment}Z"
        if row >= 0:
            found[row] = group
        last = time
    return found


def _is_live(source: str) -> bool:
    """Whether a source is a camera or a stream, by its name."""
    return re.fullmatch(r"camera:\d+|[a-z][a-z0-9+.-]*://.*", source, re.IGNORECASE | re.DOTALL) is not None


def _copies(
    transaction: Transaction, images: pa.Table, frames: Sequence[_Frame], progress: Progress | None
) -> dict[int, tuple[str, str]]:
    """Frames to leave out: what each is a copy of (a location), and in what way, by its place among the frames."""
    if not frames:
        return {}
    place = {frame.image_id: row for row, frame in enumerate(frames)}
    ids = images["image_id"].to_pylist()
    own = np.array([place.get(each, -1) for each in ids])
    pairs, _ = dataset_pairs(transaction, images, progress=progress, new=own >= 0)
    order = np.full(len(ids), -np.inf)  # what the dataset has comes first, and of the frames the hardest
    for row in np.flatnonzero(own >= 0):
        order[row] = -frames[own[row]].entry.score
    found = copies_to_leave_out(pairs.copies, order)
    locations = images["location"]
    said = {True: "near copies", False: "equal"}
    return {
        int(own[row]): (locations[other].as_py(), said[near]) for row, (other, near) in found.items() if own[row] >= 0
    }


def copies_to_leave_out(copies: Pairs, order: npt.NDArray[np.float64]) -> dict[int, tuple[int, bool]]:
    """Which images go so that no two that are left are copies.

    Images are taken one after another and left out if one that was taken is a copy; a chain of frames that slowly change is
    therefore thinned, not reduced to one.

    Args:
        copies: Pairs of n images; of equal images all but the first are linked to the first alone, whose near copies are
            theirs too.
        order: Images with lower values are taken first, those with -inf always; shape (n,).

    Returns:
        For each image that goes, one that stays and that it is a copy of, and whether it is a near copy.
    """
    n = len(order)
    equal = copies.kind != NEAR
    same = components(copies.first[equal], copies.second[equal], n)
    near: dict[int, set[int]] = defaultdict(set)
    for first, second in zip(same[copies.first[~equal]].tolist(), same[copies.second[~equal]].tolist(), strict=True):
        near[first].add(second)
        near[second].add(first)
    taken: dict[int, int] = {}
    found: dict[int, tuple[int, bool]] = {}
    for row in np.argsort(order, kind="stable").tolist():
        group = int(same[row])
        if order[row] > -np.inf:
            if group in taken:
                found[row] = (taken[group], False)
                continue
            other = next((each for each in sorted(near[group]) if each in taken), None)
            if other is not None:
                found[row] = (taken[other], True)
                continue
        taken.setdefault(group, row)
    return found


def _leave_out(
    transaction: Transaction, frames: Sequence[_Frame], copies: Mapping[int, tuple[str, str]], losses: LossReport
) -> list[_Frame]:
    """Take copies out of the transaction again; the frames that stay."""
    brought = {frame.location for frame in frames}
    for row, (other, how) in copies.items():
        whose = "harder frames of this harvest" if other in brought else "images that the dataset has"
        losses.dropped(
            "images", f"{how} of {whose}" if how != "equal" else f"equal to {whose}", f"{frames[row].entry.id}: {other}"
        )
    going = pa.array([frames[row].image_id for row in copies], pa.string())
    transaction.delete("images", "image_id", going)
    for table in transaction.snapshot().commit.tables:
        if table.startswith(_COMPUTED) and "id" in transaction.snapshot().schema(table).names:
            transaction.delete(table, "id", going)
    for row in copies:
        frames[row].path.unlink(missing_ok=True)
    kept = [frame for row, frame in enumerate(frames) if row not in copies]
    losses.carried("images", len(kept))
    transaction.count("images added", len(kept))
    return kept


def _store_predictions(
    transaction: Transaction, frames: Sequence[_Frame], packages: Mapping[str, Mapping[str, Any]], losses: LossReport
) -> None:
    """Write what each package said of the frames to its layer."""
    for key, said in _by_package(frames).items():
        package = packages.get(key)
        if package is None:
            losses.dropped("predictions", "the harvest does not say what the package's classes are", key, len(said))
            continue
        if not is_layer_name(PREDICTIONS + key):
            losses.dropped("predictions", "no layer can be called as the package is", key, len(said))
            continue
        classes = [str(each) for each in package["classes"]]
        if not transaction.classes:
            store_classes(transaction, [ClassInfo(each) for each in classes], losses)
        try:
            mapping = match_classes(classes, [each["name"] for each in transaction.classes], model=key)
        except UsageError:
            losses.dropped("predictions", "the package and the dataset have no class in common", key, len(said))
            continue
        update = write_predictions(
            transaction,
            PREDICTIONS + key,
            [frame.image_id for frame, _ in said],
            (prediction_of(frame.entry, second) for frame, second in said),
            classes,
            model=f"{key} {str(package.get('model', ''))[:12]}".strip(),
            mapping=mapping,
        )
        losses.carried("predictions", len(said))
        for name, count in update.dropped.items():
            losses.dropped("annotations", "the dataset has no such class", f"{key}: {name}", count)


def _by_package(frames: Sequence[_Frame]) -> dict[str, list[tuple[_Frame, bool]]]:
    """Frames that a package said something of, and whether it did as the second of two; by the package's key."""
    found: dict[str, list[tuple[_Frame, bool]]] = defaultdict(list)
    for frame in frames:
        first, second = frame.entry.context.package, frame.entry.context.other_package
        found[first].append((frame, False))
        if frame.entry.said[1] is not None and second is not None and second != first:
            found[second].append((frame, True))
    return found


def prediction_of(entry: Entry, second: bool) -> Prediction:
    """What a package said of a frame, as a predictor would.

    Args:
        entry: The frame.
        second: Whether the second package's is wanted.

    Raises:
        InputError: It lacks what its task has.
    """
    result = entry.other if second else entry.result
    if result is not None and result.probabilities is not None:
        return Classes(result.probabilities)
    if result is not None and result.boxes is not None and result.labels is not None and result.scores is not None:
        return Objects(result.size, result.boxes, result.labels, result.scores)
    if result is not None and result.class_map is not None and result.confidence is not None:
        return ClassMap(result.class_map, result.confidence)
    raise InputError("a result that says nothing", where=entry.id, remedy="delete the entry's folder")


def _store_findings(transaction: Transaction, frames: Sequence[_Frame]) -> None:
    findings = []
    for frame in frames:
        entry, context = frame.entry, frame.entry.context
        measured = {
            "uncertainty": context.uncertainty,
            "drift": context.drift,
            "agreement": context.agreement,
            "other_package": context.other_package,
            "frame": context.number if context.seconds is not None else None,
        }
        evidence = {
            "why": _why(entry),
            "reasons": dict(entry.reasons),
            "package": context.package,
            "source": context.source,
            "name": context.name,
            "time": context.time,
            **{name: value for name, value in measured.items() if value is not None},
        }
        score = min(max(entry.score, 0.0), 1.0)
        findings.append(Finding("hard", score, frame.location, frame.image_id, CHECK, evidence=evidence))
    replace_findings(transaction, CHECK, findings, judged=lambda finding: False)


def _why(entry: Entry) -> str:
    """Why a frame was kept, in words; the strongest reason first."""
    context = entry.context
    words = {
        "unsure": f"{context.package} is unsure ({context.uncertainty:.2f})",
        "asked": f"a score of {context.package} is one that a person is to be asked about",
        "drift": f"unlike {100 * (context.drift or 0):.1f}% of the training images",
        "disagreement": f"{context.package} and {context.other_package} agree {context.agreement or 0:.2f} only",
    }
    return "; ".join(words[name] for name in sorted(entry.reasons, key=lambda name: -entry.reasons[name]))


def _remember(transaction: Transaction, ring: str, there: Sequence[Stored], copies: Sequence[_Frame]) -> None:
    """Note which of the entries that the ring still has were left out as copies."""
    before = transaction.info.get(CHECK, {})
    left_out = {*before.get(ring, ()), *(frame.entry.id for frame in copies)}
    still = sorted(left_out & {each.id for each in there})
    if still != before.get(ring, []):
        transaction.info = {**transaction.info, CHECK: {**before, ring: still}}
