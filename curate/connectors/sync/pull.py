"""`curate pull`: what annotators did comes back, in one commit; only what changed is moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import pyarrow.compute as pc

from curate.checks.findings import to_table
from curate.checks.store import stored_findings
from curate.connectors.addresses import parse_address
from curate.connectors.base import Connector, Item, Progress, Project
from curate.connectors.sync.agreement import Agreement, agreement
from curate.connectors.sync.merge import Conflict, Prefer
from curate.connectors.sync.session import REMOTES, Session
from curate.dataset import begin, open_dataset
from curate.dataset.home import exists
from curate.errors import UsageError
from curate.formats.losses import LossReport
from curate.names import GROUND_TRUTH

_ITEMS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class PullResult:
    """What a pull did.

    Attributes:
        remote: Address of the project.
        title: Its title.
        items: How many it has.
        moved: How many of them were new or had changed.
        counts: What the commit changed; empty if nothing did.
        commit: Number of the dataset's newest commit afterwards.
        conflicts: Image and annotation that were changed on both sides, differently.
        waiting: How many findings are still with the annotators.
        to_push: How many annotations were changed here and not yet there.
        gone: How many images are no longer there; they stay here.
        agreement: How far several annotators agree, where some images have several versions.
        losses: What could not be carried.
    """

    remote: str
    title: str
    items: int
    moved: int
    counts: dict[str, int]
    commit: int
    conflicts: list[tuple[str, Conflict]]
    waiting: int
    to_push: int
    gone: int
    agreement: Agreement | None
    losses: LossReport = field(repr=False)


def pull(
    name: str,
    connector: Connector,
    *,
    prefer: Prefer | None = None,
    create: bool = False,
    strict: bool = False,
    command: str,
    progress: Progress | None = None,
) -> PullResult:
    """Bring what is on a server into a dataset.

    Annotations that changed there are changed here, unless they were changed here as well, differently: those are listed as
    conflicts and left alone. Findings that were pushed are closed where annotators have answered. Images that are not here
    are downloaded; an image here is never taken away.

    Args:
        name: The dataset.
        connector: A project on a server.
        prefer: Who is right in a conflict: 'theirs' takes what is there, 'ours' keeps what is here for the next push.
        create: Make the dataset if it is not there.
        strict: Raise at the first loss; nothing is then written.
        command: The command line, for the history.
        progress: Told (done, total).

    Raises:
        UnavailableError: The server cannot be reached, or refuses the token; nothing is written.
        InputError: The server has no such project.
        FormatError: With `strict`, something would be lost.
    """
    losses = LossReport(strict=strict)
    with begin(name, command=command, create=create) as transaction:
        project = connector.project()
        session = Session(transaction, connector, losses, prefer)
        items = connector.items(unless=session.versions(), losses=losses, progress=progress)
        seen, moved, to_push, gone = _pull_items(session, items)
        _close(session, project)
        pushed = sum(map(len, session.links.findings.values()))
        found = agreement(transaction)
    return PullResult(
        session.remote,
        project.title,
        seen,
        moved,
        transaction.counts,
        open_dataset(name).commit.number,
        session.conflicts,
        pushed,
        to_push,
        gone,
        found,
        losses,
    )


def remotes_of(name: str, *, may_be_none: bool = False) -> list[str]:
    """Addresses of the projects that a dataset is synced with.

    Raises:
        UsageError: There is none, and there must be.
    """
    remotes: dict[str, Any] = dict(open_dataset(name).commit.info.get(REMOTES) or {})
    if not remotes and not may_be_none:
        raise UsageError(
            "the dataset is not synced with any project",
            where=name,
            remedy="name one: 'curate pull labelstudio://HOST/projects/7', or push to one first",
        )
    return list(remotes)


def known_remote(name: str, address: str) -> str:
    """The project that an address means for a dataset: a bare server is the project there that it is synced with.

    Raises:
        UsageError: The dataset is synced with several projects on the server.
    """
    asked = parse_address(address)
    if asked.path or not exists(name):
        return address
    remotes = dict(open_dataset(name).commit.info.get(REMOTES) or {})
    known = [each for each in map(parse_address, remotes) if (each.service, each.host) == (asked.service, asked.host)]
    if len(known) > 1:
        raise UsageError(
            "the dataset is synced with several projects there",
            where=address,
            remedy=f"name one: {', '.join(map(str, known))}",
        )
    return str(known[0]) if known else address


def forget_remote(name: str, address: str, *, command: str) -> int:
    """Sync a dataset no more with a project; findings that were asked there are open again.

    Returns:
        How many findings are open again.

    Raises:
        UsageError: The dataset is not synced with it.
    """
    with begin(name, command=command) as transaction:
        remotes = dict(transaction.info.get(REMOTES) or {})
        remote = str(parse_address(address))
        if remote not in remotes:
            raise UsageError(
                "the dataset is not synced with this project",
                where=address,
                remedy=f"it is synced with: {', '.join(remotes) or 'none'}",
            )
        del remotes[remote]
        transaction.info = {**transaction.info, REMOTES: remotes}
        links = transaction.read("links")
        here = pc.equal(links["remote"], remote)
        asked = links.filter(pc.and_(here, pc.equal(links["kind"], "finding")))["local_id"].to_pylist()
        queued = [each for each in stored_findings(transaction.base, status="queued") if each.id in set(asked)]
        transaction.overwrite("links", [links.filter(pc.invert(here))])
        transaction.upsert("findings", to_table([replace(each, status="open") for each in queued]), "id")
        transaction.count("findings open", len(queued))
    return len(queued)


def _pull_items(session: Session, items: Iterator[Item]) -> tuple[int, int, int, int]:
    """Take all items, those that match no image here last.

    Returns:
        How many there are, how many had changed, how many annotations are still to be pushed, and how many items are gone.
    """
    seen: set[str] = set()
    moved = to_push = 0
    late: list[Item] = []
    while chunk := list(islice(items, _ITEMS_AT_ONCE)):
        seen.update(item.remote_id for item in chunk)
        unmatched = session.match(chunk)
        late += unmatched
        ids = {item.remote_id for item in unmatched}
        changed, waiting = _pull_chunk(session, [item for item in chunk if item.remote_id not in ids])
        moved += changed
        to_push += waiting
    gone = session.forget_gone(seen)
    session.match(late, last=True)
    changed, waiting = _pull_chunk(session, late)
    return len(seen), moved + changed, to_push + waiting, gone


def _pull_chunk(session: Session, chunk: Sequence[Item]) -> tuple[int, int]:
    """Merge some items; how many had changed, and how many annotations are still to be pushed."""
    moved = [item for item in chunk if item.annotations is not None]
    ids = [session.links.items[item.remote_id].image_id for item in moved]
    rows, beside = session.local.rows(ids), session.local.beside(ids)
    to_push = 0
    for item, image_id in zip(moved, ids, strict=True):
        row = session.images.rows[image_id]
        merged = session.merge(item, rows[image_id])
        now = session.take(item, merged, rows[image_id])
        others = [each for each in item.annotations or () if each.layer != GROUND_TRUTH]
        session.local.take_beside(image_id, row["location"], others, beside[image_id])
        to_push += len(merged.updated) + len(merged.deleted) + len(merged.created)
        session.settle(item, now)
        session.images.update(image_id, item)
        session.note_version(item, again=bool(merged.conflicts))
        session.losses.carried("annotations", len(item.annotations or ()))
    _settle_unmoved(session, [item for item in chunk if item.annotations is None])
    session.losses.carried("images", len(chunk))
    return len(moved), to_push


def _settle_unmoved(session: Session, items: Sequence[Item]) -> None:
    """Items may be looked at without a change of what is on them."""
    some = [item for item in items if session.links.findings.get(item.remote_id)]
    ids = [session.links.items[item.remote_id].image_id for item in some]
    rows = session.local.rows(ids)
    for item, image_id in zip(some, ids, strict=True):
        session.settle(item, rows[image_id])


def _close(session: Session, project: Project) -> None:
    session.store_classes(project.classes)
    session.remember({"title": project.title})
    session.finish()
