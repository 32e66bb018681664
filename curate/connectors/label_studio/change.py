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

from curate.connectors.base import Change, Progress, Row
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.edits import Edit, edited
from curate.connectors.label_studio.notes import with_notes
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
        known = [change for change in changes if change.item.remote_id in images]
        edits = [
            (images[change.item.remote_id], change)
            for change in known
            if change.created or change.updated or change.deleted
        ]
        if edits:
            self._change_annotations(task, edits, losses)
        notes = [note for change in known for note in change.notes]
        priorities = [change.priority for change in known if change.priority is not None]
        if notes or priorities:
            data, meta = with_notes(content, notes, max(priorities, default=None))
            if (data, meta) != (mapping(content.get("data")), mapping(content.get("meta"))):
                self.api.change_task(task.number, {"data": data, "meta": meta})
        return losses

    def _change_annotations(self, task: ItemTask, edits: Sequence[tuple[int, Change]], losses: LossReport) -> None:
        """Carry out what is to change of the annotations of a task."""
        place = edits[0][1].item.location
        by_prefix = {prefix_of(work): work for work in task.submitted}
        chosen = task.chosen
        results: dict[str, list[Any]] = {}
        for image, change in edits:
            for prefix in _prefixes(change, "" if chosen is None else prefix_of(chosen)):
                work = by_prefix.get(prefix)
                if prefix and work is None:
                    losses.dropped("changes", _MEANWHILE, place)
                if (prefix and work is None) or not self._is_as_read(work, task, change, losses):
                    self.left_alone.add(change.image_id)
                    continue
                before = results.get(prefix)
                given = sequence(mapping(work.content if work else {}).get("result")) if before is None else before
                results[prefix] = self._edited(task, image, change, work, prefix, given, losses)
        for prefix, result in results.items():
            if prefix:
                self.api.change_annotation(int(prefix.removesuffix(":")), result)
            else:
                self.api.create_annotation(task.number, result)

    def _is_as_read(self, work: Work | None, task: ItemTask, change: Change, losses: LossReport) -> bool:
        """Whether an annotation, or there being none, is as it was when the caller read it, and nobody is at work on it."""
        read, now = stamps_of(change.item.work), stamps_of(work_of(task.content))
        place = change.item.location
        if work is None:
            if now != read:
                losses.dropped("changes", _MEANWHILE, place)
            return now == read
        number = str(work.content["id"])
        if now.get(number) != read.get(number):
            losses.dropped("changes", _MEANWHILE, place)
            return False
        if task.content.get("draft_exists") and any(
            draft.get("annotation") == work.content["id"] for draft in self.api.drafts(task.number)
        ):
            losses.dropped("changes", _AT_WORK, place)
            return False
        return True

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
        created: Sequence[Row] = change.created if prefix == self._home(task) else ()
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

    def _home(self, task: ItemTask) -> str:
        """Prefix of the annotation that new regions go into; empty where there is none yet."""
        return "" if task.chosen is None else prefix_of(task.chosen)


def _prefixes(change: Change, home: str) -> list[str]:
    """The annotations that a change touches."""
    touched = [f"{remote.partition(':')[0]}:" for remote in (*change.updated, *change.deleted)]
    return list(dict.fromkeys([*touched, *([home] if change.created else [])]))
