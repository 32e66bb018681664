"""One sync: a connector, the dataset's side, what both last agreed on, and the steps that pull and push share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curate.checks.findings import Finding, to_table
from curate.checks.store import stored_findings
from curate.connectors.base import Connector, Item, RemoteAnnotation, Row
from curate.connectors.sync.content import digest
from curate.connectors.sync.images import Images
from curate.connectors.sync.links import ItemLink, Links, read_links, write_links
from curate.connectors.sync.local import Local
from curate.connectors.sync.merge import Conflict, Link, Merged, Prefer, link_of, merge
from curate.connectors.sync.verdicts import verdict
from curate.dataset import Transaction
from curate.formats.base import ClassInfo
from curate.formats.importing import store_classes
from curate.formats.losses import LossReport
from curate.names import GROUND_TRUTH

REMOTES = "remotes"
"""Key of a dataset's info: addresses that it is synced with, and what is known of each."""


@dataclass
class Session:
    """A sync within one transaction.

    Attributes:
        transaction: The commit being made.
        connector: The other side; its address is that of a project.
        losses: What cannot be carried.
        prefer: Who is right in a conflict; None for nobody.
    """

    transaction: Transaction
    connector: Connector
    losses: LossReport
    prefer: Prefer | None = None
    _conflicts: dict[tuple[str, str], tuple[str, Conflict]] = field(default_factory=dict)
    links: Links = field(init=False)
    local: Local = field(init=False)
    images: Images = field(init=False)
    findings: dict[str, Finding] = field(init=False)
    decided: dict[str, Finding] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.remote = str(self.connector.address)
        self.links = read_links(self.transaction, self.remote)
        self._linked = set(self.links.item_of())
        self.local = Local(self.transaction, self.remote)
        self.images = Images(self.local, self.connector, self.losses)
        pushed = {link.finding_id for links in self.links.findings.values() for link in links}
        found = stored_findings(self.transaction.base) if pushed else []
        self.findings = {finding.id: finding for finding in found if finding.id in pushed}

    @property
    def conflicts(self) -> list[tuple[str, Conflict]]:
        """What nobody has decided, with the image's location."""
        return list(self._conflicts.values())

    def versions(self) -> dict[str, str]:
        """Versions of the items that need not be moved again if they still have them."""
        return {item: link.version for item, link in self.links.items.items() if link.version}

    def match(self, items: Iterable[Item], *, last: bool = False) -> list[Item]:
        """Link items that are new to the dataset to its images; what is not here is downloaded.

        Args:
            items: Some of the project's.
            last: Whether all of them have been seen, and what is gone is forgotten.

        Returns:
            Items whose image another item has, which may turn out to be gone: to be matched once all have been seen. None
            with `last`: they become images of their own.
        """
        new = [item for item in items if item.remote_id not in self.links.items]
        found = self.images.match(new, self._linked, last=last)
        for item in new:
            if item.remote_id in found:
                self._link(item, found[item.remote_id])
        return [item for item in new if item.remote_id not in found]

    def forget_gone(self, seen: Collection[str]) -> int:
        """Unlink what the server no longer has, and say how many; findings that were asked there are open again."""
        gone = [item for item in self.links.items if item not in seen]
        for item in gone:
            for link in self.links.findings.get(item, []):
                finding = self.findings.get(link.finding_id)
                if finding is not None and finding.status == "queued":
                    self.decided[finding.id] = replace(finding, status="open")
            self._linked.discard(self.links.items[item].image_id)
            self.links.forget(item)
        return len(gone)

    def merge(self, item: Item, here: Mapping[str, Row], *, sent: Collection[str] | None = None) -> Merged:
        """Compare the ground truth of an item with the dataset's; conflicts are noted.

        Args:
            item: With its annotations. One that lost all its work there says nothing of what should be here.
            here: Rows of its image.
            sent: If what is here has just been sent, the remote ids that the item had before.
        """
        known = self.links.annotations.get(item.remote_id, [])
        if item.unlabelled and known:
            return Merged(links=known)
        there = [self._own(item, each, here) for each in item.annotations or () if each.layer == GROUND_TRUTH]
        merged = merge(here, there, known, prefer=self.prefer, sent=sent)
        location = self.images.rows[self.links.items[item.remote_id].image_id]["location"]
        for conflict in merged.conflicts:
            self._conflicts[item.remote_id, conflict.remote_id] = (location, conflict)
        return merged

    def take(self, item: Item, merged: Merged, here: dict[str, Row]) -> dict[str, Row]:
        """Carry out here what a merge decided; the rows of the image as they are then."""
        image_id = self.links.items[item.remote_id].image_id
        location = self.images.rows[image_id]["location"]
        rows = dict(here)
        for row in merged.written.values():
            self.local.write(row)
            rows[row["annotation_id"]] = row
        links: list[Link] = list(merged.links)
        for remote in merged.new:
            row = self.local.new_row(image_id, location, remote)
            self.local.write(row)
            rows[row["annotation_id"]] = row
            links.append(link_of(row["annotation_id"], row, remote))
        self.local.drop(merged.dropped)
        self.links.annotations[item.remote_id] = links
        return {key: row for key, row in rows.items() if key not in merged.dropped}

    def agree(self, item: Item, merged: Merged) -> None:
        """Note what both sides have alike; what changed there only waits for the next pull."""
        before = self.links.annotations.get(item.remote_id, [])
        waits = merged.written.keys() | set(merged.dropped)
        kept = [link for link in merged.links if link.local_id not in waits]
        self.links.annotations[item.remote_id] = [*kept, *(link for link in before if link.local_id in waits)]

    def differs(self, item: str, here: Mapping[str, Row]) -> bool:
        """Whether the ground truth here is no longer what both sides last agreed on."""
        known = {link.local_id: link.local for link in self.links.annotations.get(item, [])}
        return known.keys() != here.keys() or any(digest(row) != known[key] for key, row in here.items())

    def link_own(self, item: Item) -> str | None:
        """Link an item that carries curate's own id of an image, which no other item is; the image's id."""
        own = self.images.by_own_id(item)
        if own is None or own in self._linked:
            return None
        self._link(item, own)
        return own

    def take_for_ours(self, item: Item, *, only: str | None = None) -> None:
        """Take what was handed in on an item for what curate has written itself: it is no answer to any finding.

        Args:
            item: As it is now.
            only: Only for findings that were waiting at this state of the work; None for all.
        """
        links = self.links.findings.get(item.remote_id, [])
        self.links.findings[item.remote_id] = [
            replace(link, work=item.work) if only in (None, link.work) else link for link in links
        ]

    def settle(self, item: Item, rows: Mapping[str, Row]) -> None:
        """Close the findings that were pushed to an item, if they have been answered."""
        if item.unlabelled:
            return
        waiting = []
        asked = self.links.findings.get(item.remote_id, [])
        in_conflict = {conflict.local_id for _, conflict in self.conflicts} if asked else set()
        for link in asked:
            finding = self.findings.get(link.finding_id)
            if finding is None:
                continue
            now = finding if finding.annotation_id in in_conflict else verdict(finding, link, item, rows, self.remote)
            if now.status in ("fixed", "rejected"):
                if now is not finding:
                    self.decided[now.id] = now
            else:
                waiting.append(link)
        self.links.findings[item.remote_id] = waiting

    def note_version(self, item: Item, *, again: bool) -> None:
        """Remember an item as it is now; `again` if it must be looked at the next time even if it stays so."""
        link = self.links.items[item.remote_id]
        self.links.items[item.remote_id] = replace(link, version="" if again else item.version, work=item.work)

    def store_classes(self, classes: Sequence[ClassInfo]) -> None:
        """Add the project's classes to the dataset's, and those of rows that have another."""
        known = {info.name for info in classes} | {str(info["name"]) for info in self.transaction.classes}
        labels = {row["label"] for row in self.local.written.values() if row.get("label")} - known
        found = [*classes, *(ClassInfo(label) for label in sorted(labels))]
        if found:
            store_classes(self.transaction, found, self.losses)

    def finish(self) -> None:
        """Write everything into the transaction."""
        self.local.finish()
        if self.decided:
            self.transaction.upsert("findings", to_table(list(self.decided.values())), "id")
            for status in ("fixed", "rejected", "queued", "open"):
                count = sum(finding.status == status for finding in self.decided.values())
                self.transaction.count(f"findings {status}", count)
        write_links(self.transaction, self.links)
        self.remember({})

    def remember(self, known: Mapping[str, Any]) -> None:
        """Note in the dataset that it is synced with this project."""
        remotes = dict(self.transaction.info.get(REMOTES) or {})
        remotes[self.remote] = {**remotes.get(self.remote, {}), **known}
        self.transaction.info = {**self.transaction.info, REMOTES: remotes}

    def _link(self, item: Item, image_id: str) -> None:
        self.links.items[item.remote_id] = ItemLink(image_id, "", "")
        self._linked.add(image_id)

    def _own(self, item: Item, remote: RemoteAnnotation, here: Mapping[str, Row]) -> RemoteAnnotation:
        """An annotation there, with the id of the row here that once came from it, if that is still there."""
        if remote.annotation_id in here:
            return remote
        image_id = self.links.items[item.remote_id].image_id
        own = self.local.new_row(image_id, self.images.rows[image_id]["location"], remote)["annotation_id"]
        return replace(remote, annotation_id=own) if own in here else remote
