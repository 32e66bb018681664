"""Three-way merge of one image's annotations: here, there, and what both were when they last agreed.

What changed on one side only goes to the other. What changed on both, and not alike, is a conflict: it is told, and neither
side is touched until a person says whose is right. What one side has taken away and the other has changed is one too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from curate.connectors.base import RemoteAnnotation, Row
from curate.connectors.sync.content import agree, alike, at_same_place, changed_fields, digest, equal, fields, overlay

Prefer = Literal["theirs", "ours"]


@dataclass(frozen=True)
class Link:
    """An annotation that both sides have.

    Attributes:
        local_id: Its id here.
        remote_id: Its id there.
        local: `digest` of the row here when both last agreed.
        remote: `fields` of the row there at that time; empty, as `remote_id` is, for a row that was sent and that the service
            cannot hold.
    """

    local_id: str
    remote_id: str
    local: str
    remote: Mapping[str, str]


@dataclass(frozen=True)
class Conflict:
    """One annotation that was changed on both sides.

    Attributes:
        local_id: Its id here.
        remote_id: Its id there.
        here: The row here; None if it was taken away.
        there: The row there; None if it was taken away.
    """

    local_id: str
    remote_id: str
    here: Row | None
    there: Row | None


@dataclass
class Merged:
    """What is to be done for both sides to agree.

    Attributes:
        written: Rows to write here, by local id; None for an annotation that is new here.
        new: Remote annotations that are new here.
        dropped: Local ids to take away here.
        created: Local ids of rows that the server lacks.
        updated: Local ids by the remote id whose annotation they replace.
        deleted: Remote ids to take away there.
        links: As they are once `written`, `new` (which the caller links) and `dropped` are carried out here; what is to be
            sent keeps what it was when both last agreed.
        conflicts: What nobody has decided.
        was_sent: Whether something is there already that was still to be sent: a push was stopped before it noted it down.
    """

    written: dict[str, Row] = field(default_factory=dict)
    new: list[RemoteAnnotation] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    updated: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    was_sent: bool = False

    @property
    def waits(self) -> bool:
        """Whether something here is still to be sent."""
        return bool(self.created or self.updated or self.deleted)

    @property
    def unsettled(self) -> bool:
        """Whether the two sides differ in anything."""
        return bool(self.waits or self.written or self.new or self.dropped or self.conflicts)


def merge(
    here: Mapping[str, Row],
    there: Sequence[RemoteAnnotation],
    links: Sequence[Link],
    *,
    prefer: Prefer | None = None,
    sent: Collection[str] | None = None,
) -> Merged:
    """Compare the two sides of one image's ground truth.

    Args:
        here: Rows of the dataset by annotation id.
        there: What the server has.
        links: What both sides have, as they last agreed.
        prefer: Who is right where both have changed; None for nobody.
        sent: If what is here has just been sent, the ids that the server had before: what came back alike is what was sent,
            whatever the service made of it, and what did not come back it cannot hold.
    """
    result = Merged()
    known = {each.remote_id: each for each in there}
    links = moved(links, here, there)
    linked = {link.remote_id for link in links}
    unlinked = {key: row for key, row in here.items() if key not in {link.local_id for link in links}}
    for link in links:
        if link.remote_id:
            _compare(link, here.get(link.local_id), known.get(link.remote_id), prefer, result, sent=sent is not None)
        elif link.local_id in here:
            _keep_unheld(link, here[link.local_id], result)
    strangers = [remote for remote in there if remote.remote_id not in linked]
    for remote in strangers:
        _meet(remote, unlinked, prefer, result, sent=sent is not None)
    if sent is not None:
        _settle_sent(unlinked, sent, result)
    result.created += unlinked
    return result


def moved(links: Sequence[Link], here: Mapping[str, Row], there: Sequence[RemoteAnnotation]) -> list[Link]:
    """The links, with new remote ids for annotations that the server now knows by another one.

    A second annotator's version of an image, or one that was copied, has ids of its own; what it says is no other annotation
    for that. Pairs are those that say the same, else those at the same place.

    Args:
        links: What both sides have, as they last agreed.
        here: Rows of the dataset by annotation id.
        there: What the server has.
    """
    known = {each.remote_id for each in there}
    linked = {link.remote_id for link in links}
    strangers = {each.remote_id: each for each in there if each.remote_id not in linked}
    lost = [link for link in links if link.remote_id and link.remote_id not in known and link.local_id in here]
    if not (strangers and lost):
        return list(links)
    now: dict[str, str] = {}
    for same in (alike, at_same_place):
        for link in lost:
            if link.local_id in now:
                continue
            found = next((key for key, each in strangers.items() if same(here[link.local_id], each.row)), None)
            if found is not None:
                now[link.local_id] = strangers.pop(found).remote_id
    return [replace(link, remote_id=now.get(link.local_id, link.remote_id)) for link in links]


def link_of(local_id: str, row: Row, remote: RemoteAnnotation) -> Link:
    """The link between a row and what is on the server, which agree now."""
    return Link(local_id, remote.remote_id, digest(row), fields(remote.row))


def _compare(
    link: Link, here: Row | None, there: RemoteAnnotation | None, prefer: Prefer | None, result: Merged, *, sent: bool
) -> None:
    """Decide on an annotation that both sides had."""
    changed = changed_fields(link.remote, fields(there.row)) if there is not None else []
    touched = here is not None and digest(here) != link.local
    if here is None and there is None:
        return
    if here is None or there is None:
        _compare_taken_away(link, here, there, prefer, result, changed=bool(changed), touched=touched)
    elif not changed:
        # What was sent, and is there as far as the service can hold it, is not sent again.
        settled = sent and touched and agree(here, there.row)
        result.links.append(link_of(link.local_id, here, there) if settled else link)
        if touched and not settled:
            result.updated[link.remote_id] = link.local_id
    elif not touched or prefer == "theirs":
        # Where both have changed, what was changed here gives way too; what the service cannot hold stays either way.
        taken = changed if not touched else sorted({*changed, *fields(there.row)})
        row = overlay(here, there.row, taken)
        result.written[link.local_id] = row
        result.links.append(link_of(link.local_id, row, there))
    elif sent and alike(here, there.row):
        result.links.append(link_of(link.local_id, here, there))
    elif equal(overlay(here, there.row, changed), here):
        result.was_sent = True
        # Both have made the same change, or a push was stopped before it could note that it made it. There may be more here.
        if equal(here, there.row):
            result.links.append(link_of(link.local_id, here, there))
        else:
            result.updated[link.remote_id] = link.local_id
            result.links.append(Link(link.local_id, link.remote_id, link.local, fields(there.row)))
    elif prefer == "ours":
        result.updated[link.remote_id] = link.local_id
        result.links.append(Link(link.local_id, link.remote_id, link.local, fields(there.row)))
    else:
        result.conflicts.append(Conflict(link.local_id, link.remote_id, here, there.row))
        result.links.append(link)


def _compare_taken_away(
    link: Link,
    here: Row | None,
    there: RemoteAnnotation | None,
    prefer: Prefer | None,
    result: Merged,
    *,
    changed: bool,
    touched: bool,
) -> None:
    """Decide on an annotation that one side has taken away; whether the other has changed it."""
    if (changed or touched) and prefer is None:
        result.conflicts.append(Conflict(link.local_id, link.remote_id, here, None if there is None else there.row))
        result.links.append(link)
    elif here is not None:
        if touched and prefer == "ours":
            result.created.append(link.local_id)
        else:
            result.dropped.append(link.local_id)
    elif there is not None:
        if changed and prefer == "theirs":
            result.new.append(there)
        else:
            result.deleted.append(link.remote_id)
            result.links.append(Link(link.local_id, link.remote_id, link.local, fields(there.row)))


def _keep_unheld(link: Link, here: Row, result: Merged) -> None:
    """A row that the service could not hold is sent again only once it has changed."""
    if digest(here) == link.local:
        result.links.append(link)
    else:
        result.created.append(link.local_id)


def _settle_sent(unlinked: dict[str, Row], before: Collection[str], result: Merged) -> None:
    """Find what became of rows that were sent and did not come back as they were.

    What is new on the server has been made of them: a keypoint figure that became a box, an outline that became a mask. Those
    of the same label go together, the nearest first. What is left over the service cannot hold.
    """
    made = {each.remote_id: each for each in result.new if each.remote_id not in before}
    for same in (at_same_place, _same_label):
        for key, row in list(unlinked.items()):
            found = next((remote for remote in made.values() if same(row, remote.row)), None)
            if found is not None:
                result.links.append(link_of(key, row, made.pop(found.remote_id)))
                result.new.remove(found)
                del unlinked[key]
    for key, row in unlinked.items():
        result.links.append(Link(key, "", digest(row), {}))
    unlinked.clear()


def _same_label(first: Row, second: Row) -> bool:
    return first.get("label") == second.get("label")


def _meet(
    remote: RemoteAnnotation, unlinked: dict[str, Row], prefer: Prefer | None, result: Merged, *, sent: bool
) -> None:
    """Decide on an annotation there that nothing is linked to: it is new, or one that is here already.

    It may carry our own id, since curate has sent it and was stopped before it could note that down. Without a base nobody
    can tell which side has changed it since, if they differ.
    """
    own = remote.annotation_id if remote.annotation_id in unlinked else _same(remote, unlinked)
    if own is None:
        result.new.append(remote)
        return
    row = unlinked.pop(own)
    result.was_sent |= remote.annotation_id == own
    link = link_of(own, row, remote)
    if agree(row, remote.row) or (sent and remote.annotation_id == own):
        result.links.append(link)
    elif prefer == "theirs":
        result.written[own] = taken = overlay(row, remote.row, list(link.remote))
        result.links.append(link_of(own, taken, remote))
    elif prefer == "ours":
        result.updated[remote.remote_id] = own
        result.links.append(Link(own, remote.remote_id, "", link.remote))
    else:
        result.conflicts.append(Conflict(own, remote.remote_id, row, remote.row))


def _same(remote: RemoteAnnotation, unlinked: Mapping[str, Row]) -> str | None:
    """The row here that says the same as an annotation there, one of the same type before others."""
    candidates = [key for key, row in unlinked.items() if agree(row, remote.row)]
    types = [key for key in candidates if unlinked[key].get("type") == remote.row.get("type")]
    return next(iter(types or candidates), None)
