"""Changes to tasks that are there, in place: the one annotation that a region is in, and what the task says besides.

The server knows no conditions ("only if it is unchanged"), so an annotation is read right before it is written, and left alone
if somebody has handed it in anew since the caller has read it, or is at work on it: saving an annotation deletes its drafts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from curate.connectors.base import Change, Note, Progress, Row
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.edits import Edit, edited
from curate.connectors.label_studio.notes import with_notes, with_saved, with_texts
from curate.connectors.label_studio.projects import ProjectConfig
from curate.connectors.label_studio.tasks import (
    ItemTask,
    TaskReader,
    number_of,
    prefix_of,
    regions_of,
    stamps_of,
    work_of,
)
from curate.formats.label_studio.work import Work
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence
from curate.names import GROUND_TRUTH

_TASKS_AT_ONCE: Final = 20
_AT_ONCE: Final = 4
_MEANWHILE: Final = "changed there meanwhile; left alone until it is pulled"
_AT_WORK: Final = "somebody is at work on it there and has not handed it in; left alone"


@dataclass
class Changer:
    """Changes tasks of a project.

    Attributes:
        api: The project.
        project: Its configuration.
        losses: What cannot be changed.
        left_alone: Ids of images whose work had changed there meanwhile, or is being changed.
    """

    api: Api
    project: ProjectConfig
    losses: LossReport
    left_alone: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def change(self, changes: Sequence[Change], progress: Progress | None) -> set[str]:
        """Change items in place, those of one task together; ids of the images that were left alone."""
        of_task: dict[int, list[Change]] = {}
        for change in changes:
            of_task.setdefault(number_of(change.item), []).append(change)
        numbers = list(of_task)
        done = 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(numbers), _TASKS_AT_ONCE):
                some = numbers[start : start + _TASKS_AT_ONCE]
                now = self.api.tasks(some)
                parts = [of_task[number] for number in some]
                for losses in pool.map(self._change_task, map(now.get, some), parts):
                    self.losses.include(losses.losses)
                done += sum(map(len, parts))
                if progress is not None:
                    progress(done, len(changes))
        return self.left_alone

    def _change_task(self, content: Mapping[str, Any] | None, changes: Sequence[Change]) -> LossReport:
        losses = LossReport()
        if content is None:
            losses.dropped("changes", "of a task that is no longer there", [each.item.location for each in changes])
            self.left_alone.update(each.image_id for each in changes)
            return losses
        reader = TaskReader(self.project.config, {}, LossReport())
        task = reader.taken_apart(content, work=True)
        images = {task.remote_id(image): image for image in range(len(task.images))}
        self.left_alone.update(each.image_id for each in changes if each.item.remote_id not in images)
        known = [(images[each.item.remote_id], each) for each in changes if each.item.remote_id in images]
        saved = self._change_annotations(task, known, losses)
        done = [change for _, change in known if change.image_id not in self.left_alone]
        notes = [note for change in done for note in change.notes]
        priorities = [change.priority for change in done if change.priority is not None]
        data, meta = with_notes(content, notes, max(priorities, default=None))
        meta = with_saved(meta, saved)
        if (data, meta) != (mapping(content.get("data")), mapping(content.get("meta"))):
            self.api.change_task(task.number, {"data": data, "meta": meta})
        return losses

    def _change_annotations(
        self, task: ItemTask, changes: Sequence[tuple[int, Change]], losses: LossReport
    ) -> list[Mapping[str, Any]]:
        """Carry out what is to change of the annotations of a task.

        Args:
            task: The task.
            changes: With the place of each one's image among the task's.
            losses: What could not be done.

        Returns:
            What was saved, as it is then: the annotations that are nobody's but curate's.
        """
        by_prefix = {prefix_of(work): work for work in task.submitted}
        home = "" if task.chosen is None else prefix_of(task.chosen)
        results: dict[str, list[Any]] = {}
        for image, change in changes:
            touched = _prefixes(change, home)
            reasons = {self._reason_against(prefix, by_prefix, task, change) for prefix in touched} - {""}
            for reason in reasons:
                losses.dropped("changes", reason, change.item.location)
            if reasons:
                self.left_alone.add(change.image_id)
                continue
            for prefix in touched:
                given = results.get(prefix, _results_of(by_prefix.get(prefix)))
                results[prefix] = self._edited(task, image, change, by_prefix.get(prefix), prefix, given, losses)
            for prefix, notes in _notes_by_prefix(change, home).items():
                given = results.get(prefix, _results_of(by_prefix.get(prefix)))
                told = with_texts(given, notes)
                # The task tells of them as well: for the texts alone nobody is disturbed.
                if told != given and not self._reason_against(prefix, by_prefix, task, change):
                    results[prefix] = told
        people = {prefix_of(work) for work in task.answers}
        saved = {prefix: self._save(prefix, result, task) for prefix, result in results.items()}
        return [annotation for prefix, annotation in saved.items() if prefix not in people]

    def _save(self, prefix: str, result: Sequence[Any], task: ItemTask) -> dict[str, Any]:
        if prefix:
            return self.api.change_annotation(int(prefix.removesuffix(":")), result)
        return self.api.create_annotation(task.number, result)

    def _reason_against(self, prefix: str, by_prefix: Mapping[str, Work], task: ItemTask, change: Change) -> str:
        """Why an annotation must be left alone, or none be made; empty for no reason.

        It is not as it was when the caller read it, or somebody is at work on it.
        """
        read, now = stamps_of(change.item.work), stamps_of(work_of(task.content))
        work = by_prefix.get(prefix)
        if work is None:
            return _MEANWHILE if prefix or now != read else ""
        number = str(work.content["id"])
        if now.get(number) != read.get(number):
            return _MEANWHILE
        drafts = self.api.drafts(task.number) if task.content.get("draft_exists") else []
        return _AT_WORK if any(draft.get("annotation") == work.content["id"] for draft in drafts) else ""

    def _edited(
        self,
        task: ItemTask,
        image: int,
        change: Change,
        work: Work | None,
        prefix: str,
        results: Sequence[Any],
        losses: LossReport,
    ) -> list[Any]:
        """The results of one annotation with one change, after the project has the controls and labels that it uses."""
        regions = {} if work is None else regions_of(work, image)
        rows = {each.remote_id: each.row for each in change.item.annotations or () if each.layer == GROUND_TRUTH}
        updated = {
            remote.removeprefix(prefix): (rows[remote], row)
            for remote, row in change.updated.items()
            if remote.startswith(prefix) and prefix and remote in rows and remote.removeprefix(prefix) in regions
        }
        deleted = [
            remote.removeprefix(prefix)
            for remote in change.deleted
            if remote.startswith(prefix) and prefix and remote.removeprefix(prefix) in regions
        ]
        home = "" if task.chosen is None else prefix_of(task.chosen)
        created: Sequence[Row] = change.created if prefix == home else ()
        edit = Edit(updated, deleted, created)
        size = change.size or task.sizes[image]
        place = change.item.location
        for _ in range(2):
            writer = self.project.writer(LossReport())
            new = edited(results, regions, edit, writer, task.images[image], size, place)
            with self._lock:
                if not self.project.fit(writer.lacking(), losses):
                    break
        # What was written there with a control that is no longer in the configuration is not curate's to drop.
        names = {mapping(each).get("from_name") for each in results}
        kept = [
            each
            for each in new
            if mapping(each).get("from_name") in names or self.project.supported([each], writer, place)
        ]
        losses.include(writer.losses.losses)
        return kept


def _results_of(work: Work | None) -> list[Any]:
    return [] if work is None else sequence(work.content.get("result"))


def _notes_by_prefix(change: Change, home: str) -> dict[str, list[Note]]:
    """Notes about annotations, by the prefix of the one that each is in."""
    found: dict[str, list[Note]] = {}
    for note in change.notes:
        number, _, region = (note.remote_annotation_id or "").partition(":")
        if region or note.finding.annotation_id:
            found.setdefault(f"{number}:" if region else home, []).append(note)
    return found


def _prefixes(change: Change, home: str) -> list[str]:
    """The annotations that a change touches."""
    touched = [f"{remote.partition(':')[0]}:" for remote in (*change.updated, *change.deleted)]
    return list(dict.fromkeys([*touched, *([home] if change.created else [])]))
