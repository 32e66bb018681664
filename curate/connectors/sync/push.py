"""`curate push`: images, annotations and findings go to the annotators, in place where the images came from the server.

The server is read first. What is there already, by curate's own ids, is never made a second time: pushing again after a
time-out, a kill or a lost reply goes on where it stopped. What changed on both sides is a conflict and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from curate.checks.findings import Finding
from curate.checks.measures.content import content_hash
from curate.connectors.base import Change, Connector, Item, NewItem, Note, Progress, Row
from curate.connectors.sync.links import FindingLink
from curate.connectors.sync.merge import Conflict, Prefer
from curate.connectors.sync.projects import project_spec
from curate.connectors.sync.session import Session
from curate.connectors.sync.verdicts import about
from curate.dataset import Transaction, begin, open_dataset
from curate.errors import CurateError
from curate.formats.losses import LossReport

_ITEMS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class PushPlan:
    """What to push.

    Attributes:
        images: Ids of the images, the most urgent first; those that the server has are changed in place, the others are put
            there.
        priority: Score in [0, 1] by image id; an image without one has 0.
        findings: What to tell the annotators.
        predictions: Layer of predictions to send with new images; None for none.
        changes: Whether images that the server has, and that are not in `images`, are sent if they were changed here.
    """

    images: Sequence[str] = ()
    priority: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    predictions: str | None = None
    changes: bool = True


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        remote: Address of the project.
        title: Its title.
        created: Images put there.
        changed: Images changed there.
        annotations: Annotations written or taken away there, those of new images among them.
        findings: Findings that the annotators now have.
        unchanged: Images that were there and needed nothing.
        conflicts: Image and annotation that were changed on both sides, differently; left alone.
        commit: Number of the dataset's newest commit afterwards.
        losses: What the service cannot hold.
    """

    remote: str
    title: str
    created: int
    changed: int
    annotations: int
    findings: int
    unchanged: int
    conflicts: list[tuple[str, Conflict]]
    commit: int
    losses: LossReport = field(repr=False)


def push(
    name: str,
    connector: Connector,
    plan: PushPlan,
    *,
    prefer: Prefer | None = None,
    strict: bool = False,
    command: str,
    progress: Progress | None = None,
) -> PushResult:
    """Send images, annotations and findings to a project, which is made if the address names none.

    Args:
        name: The dataset.
        connector: The project on a server.
        plan: What to send.
        prefer: Who is right where both sides have changed: 'ours' overwrites what is there.
        strict: Raise before anything is sent if something cannot be.
        command: The command line, for the history.
        progress: Told (done, total).

    Raises:
        UnavailableError: The server cannot be reached; what has been sent by then is recorded, and pushing again goes on.
        FormatError: With `strict`, something would be lost.
    """
    losses = LossReport(strict=strict)
    with begin(name, command=command) as transaction:
        project = connector.ensure_project(project_spec(transaction, plan.images), losses)
        session = Session(transaction, connector, losses, "ours" if prefer == "ours" else None)
        session.remember({"title": project.title})
        sender = _Sender(session, plan, progress)
        failure: BaseException | None = None
        try:
            sender.send()
        except (CurateError, KeyboardInterrupt) as error:
            failure = error
        try:
            # Somebody who interrupts does not want to wait; the next push finds what was sent.
            if not isinstance(failure, KeyboardInterrupt):
                sender.record()
        except CurateError as error:
            failure = failure or error
        session.store_classes(())
        session.finish()
        _count(transaction, sender)
    if failure is not None:
        raise failure
    return PushResult(
        session.remote,
        project.title,
        sender.created,
        sender.changed,
        sender.annotations,
        len(sender.queued),
        sender.unchanged,
        session.conflicts,
        open_dataset(name).commit.number,
        losses,
    )


class _Sender:
    """One push: what it sends, and what the server then has."""

    def __init__(self, session: Session, plan: PushPlan, progress: Progress | None) -> None:
        self._session = session
        self._plan = plan
        self._progress = progress
        self._findings: dict[str, list[Finding]] = {}
        for finding in plan.findings:
            self._findings.setdefault(finding.image_id, []).append(finding)
        self._before: dict[str, Item] = {}
        self._touched: set[str] = set()
        self._sent: set[str] = set()
        self.created = self.changed = self.annotations = self.unchanged = 0
        self.queued: list[Finding] = []

    def send(self) -> None:
        """Compare with the server, then send what it lacks."""
        session = self._session
        wanted = list(dict.fromkeys([*self._plan.images, *(self._changed_here() if self._plan.changes else ())]))
        self._before = self._items(wanted)
        there = [each for each in wanted if each in self._before]
        new = [each for each in wanted if each not in self._before]
        changes = [each for part in _parts(there) for each in self._changes(part)]
        self._touched.update(change.image_id for change in changes)
        left_alone: Collection[str] = ()
        if changes:
            left_alone = session.connector.change(changes, losses=session.losses, progress=self._progress)
        self._sent.update(change.image_id for change in changes if change.image_id not in left_alone)
        self.changed = len(changes) - len(left_alone)
        self.unchanged = len(there) - len(changes)
        for each in changes:
            if each.image_id in self._sent:
                self.annotations += len(each.created) + len(each.updated) + len(each.deleted)
        fresh = [each for part in _parts(new) for each in self._new_items(part)]
        self._touched.update(item.image_id for item in fresh)
        if fresh:
            session.connector.create(fresh, losses=session.losses, progress=self._progress)
        self._sent.update(item.image_id for item in fresh)

    def record(self) -> None:
        """Read back what was sent, and note that both sides agree on it; findings that are there now are queued."""
        session = self._session
        items = self._items(set(self._plan.images) | self._touched)
        for part in _parts(list(items)):
            rows = session.local.rows(part)
            for image_id in part:
                item, here = items[image_id], rows[image_id]
                before = self._before.get(image_id)
                had = {each.remote_id for each in (before.annotations or () if before is not None else ())}
                merged = session.merge(item, here, sent=had if image_id in self._sent else None)
                session.agree(item, merged)
                if before is None:
                    self.created += 1
                    self.annotations += sum(bool(link.remote_id) for link in session.links.annotations[item.remote_id])
                answered = self._still_waiting(item, before)
                self._queue(item, image_id, here)
                session.note_version(item, again=merged.unsettled or answered)

    def _still_waiting(self, item: Item, before: Item | None) -> bool:
        """Keep our own write from looking like an answer; whether people have answered, which the next pull must see."""
        self._session.take_for_ours(item, only=before.work if before is not None else item.work)
        links = self._session.links.findings.get(item.remote_id, [])
        return any(link.work != item.work or link.finding_id in item.resolved for link in links)

    def _changed_here(self) -> list[str]:
        """Images on the server whose ground truth is no longer what both sides last agreed on."""
        session = self._session
        found = []
        of_image = session.links.item_of()
        for part in _parts(list(of_image)):
            rows = session.local.rows(part)
            found += [each for each in part if session.differs(of_image[each], rows[each])]
        return found

    def _items(self, wanted: Collection[str]) -> dict[str, Item]:
        """The items of the wanted images that are on the server, with their annotations, by image id."""
        session = self._session
        chosen = set(wanted)
        known = session.links.items
        unless = {key: version for key, version in session.versions().items() if known[key].image_id not in chosen}
        found: dict[str, Item] = {}
        seen: set[str] = set()
        strangers: list[Item] = []
        for item in session.connector.items(unless=unless, losses=session.losses):
            seen.add(item.remote_id)
            link = known.get(item.remote_id)
            if link is None:
                strangers.append(item)
            elif link.image_id in chosen and item.annotations is not None:
                found[link.image_id] = item
        # An image whose item is gone may be there again as another.
        session.forget_gone(seen)
        for item in strangers:
            image_id = session.link_own(item)
            if image_id in chosen and item.annotations is not None:
                found[image_id] = item
        return found

    def _changes(self, image_ids: Sequence[str]) -> list[Change]:
        session = self._session
        rows = session.local.rows(image_ids)
        changes = []
        for image_id in image_ids:
            item, here = self._before[image_id], rows[image_id]
            merged = session.merge(item, here)
            session.agree(item, merged)
            if merged.was_sent:
                session.take_for_ours(item)
            notes = self._notes(image_id, item)
            if not (notes or merged.waits):
                continue
            row = session.images.rows[image_id]
            changes.append(
                Change(
                    item,
                    image_id,
                    (row["width"], row["height"]) if row["width"] and row["height"] else None,
                    created=[here[each] for each in merged.created],
                    updated={remote: here[own] for remote, own in merged.updated.items()},
                    deleted=merged.deleted,
                    notes=notes,
                    priority=self._plan.priority.get(image_id),
                )
            )
        return changes

    def _new_items(self, image_ids: Sequence[str]) -> list[NewItem]:
        session = self._session
        rows = session.local.rows(image_ids)
        beside = session.local.beside(image_ids) if self._plan.predictions else {}
        items = []
        for image_id in image_ids:
            row = session.images.rows[image_id]
            path = row["path"]
            hash_ = None if path is None else row["content_hash"] or content_hash(path)
            if hash_ is None or not (row["width"] and row["height"]):
                session.losses.dropped("images", "without a file that can be read: not pushed", row["location"])
                continue
            predictions = [
                each for each in beside.get(image_id, {}).values() if each["layer"] == self._plan.predictions
            ]
            items.append(
                NewItem(
                    image_id,
                    row["location"],
                    Path(path),
                    (row["width"], row["height"]),
                    hash_,
                    rows=list(rows[image_id].values()),
                    predictions=predictions,
                    notes=self._notes(image_id, None),
                    priority=self._plan.priority.get(image_id, 0.0),
                    split=row["split"],
                    tags=row["tags"],
                    group=row["group"],
                    frame=row["frame"],
                    metadata=session.images.metadata(image_id),
                )
            )
        return items

    def _notes(self, image_id: str, item: Item | None) -> list[Note]:
        """What to tell of an image that the annotators have not been told."""
        links = self._session.links
        told = {link.finding_id for link in links.findings.get(item.remote_id, [])} if item is not None else set()
        known = links.annotations.get(item.remote_id, []) if item is not None else []
        remote = {link.local_id: link.remote_id for link in known}
        return [
            Note(finding, note_text(finding), remote.get(finding.annotation_id or ""))
            for finding in self._findings.get(image_id, [])
            if finding.id not in told
        ]

    def _queue(self, item: Item, image_id: str, here: Mapping[str, Row]) -> None:
        """Note that the annotators have the findings on an image; not after a failure, since some may not have arrived."""
        session = self._session
        links = session.links.findings.setdefault(item.remote_id, [])
        told = {link.finding_id for link in links}
        for finding in self._findings.get(image_id, []):
            if finding.id in told or image_id not in self._sent:
                continue
            links.append(FindingLink(finding.id, about(finding, here), item.work))
            session.decided[finding.id] = replace(finding, status="queued")
            self.queued.append(finding)


def note_text(finding: Finding) -> str:
    """A finding in one line for an annotator: what it is, how sure, why, and what to do."""
    what = finding.kind.replace("_", " ")
    label = f": {finding.given}" if finding.given else ""
    suggestion = f", probably {finding.suggested}" if finding.suggested else ""
    why = str(finding.evidence.get("why") or "")
    return f"{what}{label}{suggestion} ({finding.score:.0%})" + (f". {why}" if why else "")


def _parts(image_ids: Sequence[str]) -> list[Sequence[str]]:
    return [image_ids[start : start + _ITEMS_AT_ONCE] for start in range(0, len(image_ids), _ITEMS_AT_ONCE)]


def _count(transaction: Transaction, sender: _Sender) -> None:
    transaction.count("images pushed", sender.created + sender.changed)
    transaction.count("annotations pushed", sender.annotations)
