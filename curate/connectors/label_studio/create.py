"""New tasks: images are uploaded, then tasks imported that show them, with annotations and predictions.

Files carry the image's id and the beginning of its digest in their names, tasks the id in their ``meta``: what a lost reply has
left behind is found, and used. Nothing is uploaded during an import: a server that keeps its data in SQLite and finds them
locked begins an import anew, and then makes the tasks without their annotations and predictions (release 1.23.2). It tells
their numbers, so that tasks that lack them are found and completed, whoever has locked them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from curate.connectors.base import NewItem, Progress, Row
from curate.connectors.label_studio.api import Api, send_once
from curate.connectors.label_studio.notes import with_notes, with_saved, with_texts
from curate.connectors.label_studio.projects import ProjectConfig
from curate.connectors.label_studio.results import ResultWriter, image_of_new_task
from curate.errors import ImageError
from curate.formats.label_studio.images import OWN, TaskImage
from curate.formats.label_studio.read import METADATA
from curate.formats.losses import LossReport
from curate.formats.values import mapping, text
from curate.names import PREDICTIONS

_FILES_OF_A_BATCH: Final = 100
_BYTES_OF_A_BATCH: Final = 32 << 20
_UPLOADS_AT_ONCE: Final = 3
_SHOWN: Final = frozenset({".bmp", ".gif", ".jpg", ".jpeg", ".png", ".svg", ".webp"})
_SIGNS: Final = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp"}
_WORK: Final = ("annotations", "predictions")
_LONGEST_STEM: Final = 32


@dataclass
class Creator:
    """Puts images into a project.

    Attributes:
        api: The project.
        project: Its configuration.
        losses: What cannot be put there.
    """

    api: Api
    project: ProjectConfig
    losses: LossReport

    def create(self, items: Sequence[NewItem], progress: Progress | None) -> None:
        """Put images there, the most urgent first: annotators get tasks in the order of their numbers."""
        ordered = sorted(items, key=lambda item: -item.priority)
        known = _by_key(self.api.uploads())
        last = self.api.last_task()
        batches = list(_batches(ordered))
        done = 0
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            for start in range(0, len(batches), _UPLOADS_AT_ONCE):
                some = batches[start : start + _UPLOADS_AT_ONCE]
                for batch, files in zip(
                    some, list(pool.map(lambda batch: self._upload(batch, known), some)), strict=True
                ):
                    last = max([last, *self._import(batch, files, last)])
                    self.losses.carried("images", len(files))
                    done += len(batch)
                    if progress is not None:
                        progress(done, len(ordered))

    def _upload(self, batch: Sequence[NewItem], known: Mapping[str, str]) -> dict[str, str]:
        """Upload the files of a batch that are not there; where each is there, by image id."""
        files: dict[str, tuple[str, bytes]] = {}
        there: dict[str, str] = {}
        for item in batch:
            key = _key(item)
            if key in known:
                there[key] = known[key]
                continue
            content = _content(item)
            ending = _ending(item.location, content)
            if ending is None:
                suffix = PurePosixPath(item.location).suffix or "nameless"
                self.losses.dropped("images", f"Label Studio takes no {suffix} files", item.location)
                continue
            stem = re.sub(r"[^A-Za-z0-9_.]+", "-", PurePosixPath(item.location).stem)[:_LONGEST_STEM]
            files[key] = (f"{key}-{stem}{ending}", content)

        def send(some: Mapping[str, tuple[str, bytes]]) -> dict[str, str]:
            return _by_key(self.api.upload(dict(some.values())))

        there |= send_once(files, send, lambda: _by_key(self.api.uploads()))
        return {item.image_id: there[_key(item)] for item in batch if _key(item) in there}

    def _import(self, batch: Sequence[NewItem], files: Mapping[str, str], last: int) -> list[int]:
        """Make the tasks of a batch; their numbers."""
        tasks = self._tasks([item for item in batch if item.image_id in files], files)
        whole = True

        def send(some: Mapping[str, Mapping[str, Any]]) -> dict[str, int] | None:
            nonlocal whole
            made = self.api.import_tasks(list(some.values()))
            whole = whole and all(made.get(f"{kind[:-1]}_count") == _count(some.values(), kind) for kind in _WORK)
            numbers = made.get("task_ids")
            return None if numbers is None else dict(zip(some, numbers, strict=True))

        def look() -> dict[str, int]:
            nonlocal whole
            whole = False
            pages = self.api.pages(work=False, after=last)
            return {own: task["id"] for page, _ in pages for task in page for own in image_ids_of(task) if own in tasks}

        numbers = list(send_once(tasks, send, look).values())
        if not whole:
            self._complete(tasks, numbers)
        return numbers

    def _complete(self, tasks: Mapping[str, Mapping[str, Any]], numbers: Sequence[int]) -> None:
        """Give the tasks that the server has made what they lack of what they were sent with."""
        predictions: list[dict[str, Any]] = []
        for number, there in self.api.tasks(numbers).items():
            for own in image_ids_of(there):
                sent = tasks.get(own, {})
                if not there.get("annotations") and sent.get("annotations"):
                    made = [self.api.create_annotation(number, each["result"]) for each in sent["annotations"]]
                    self.api.change_task(number, {"meta": with_saved(mapping(there.get("meta")), made)})
                if not there.get("predictions"):
                    predictions += [{**prediction, "task": number} for prediction in sent.get("predictions", ())]
        if predictions:
            self.api.import_predictions(predictions)

    def _tasks(self, batch: Sequence[NewItem], files: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The tasks of some images, by image id, after the project has every control and label that they use."""
        for _ in range(2):
            writer = self.project.writer(LossReport())
            tasks = {item.image_id: self._task(item, files[item.image_id], writer) for item in batch}
            if not self.project.fit(writer.lacking(), self.losses):
                break
        self.losses.include(writer.losses.losses)
        return tasks

    def _task(self, item: NewItem, file: str, writer: ResultWriter) -> dict[str, Any]:
        image = image_of_new_task(self.project.config)
        own = {
            "image_id": item.image_id,
            "content_hash": item.content_hash,
            "location": item.location,
            "size": list(item.size),
            "split": item.split,
            "tags": list(item.tags or ()),
            "group": item.group,
            "frame": item.frame,
            "metadata": {key: value for key, value in item.metadata.items() if key != METADATA},
        }
        own = {key: value for key, value in own.items() if value is not None and value not in ([], {})}
        before = mapping(item.metadata.get(METADATA))
        kept = {key: value for key, value in mapping(before.get("data")).items() if not isinstance(value, list | dict)}
        given = {"data": {**kept, image.key: f"/data/{file}"}, "meta": mapping(before.get("meta"))}
        given["meta"] = {**given["meta"], OWN: {"images": {image.name: own}}}
        data, meta = with_notes(given, item.notes, item.priority)
        task: dict[str, Any] = {"data": data, "meta": meta}
        results = self.project.supported(
            writer.results(item.rows, image, item.size, item.location), writer, item.location
        )
        if item.rows:
            # The server takes it for ground truth of quality control unless it is told otherwise.
            told = with_texts(results, item.notes)
            task["annotations"] = [{"result": told, "was_cancelled": False, "ground_truth": False}]
        predictions = [
            self._prediction(layer, rows, item, image, writer) for layer, rows in _by_layer(item.predictions).items()
        ]
        return task | ({"predictions": predictions} if predictions else {})

    def _prediction(
        self, layer: str, rows: Sequence[Row], item: NewItem, image: TaskImage, writer: ResultWriter
    ) -> dict[str, Any]:
        results = writer.results(rows, image, item.size, item.location, predicted=True)
        scores = [row["score"] for row in rows if row["score"] is not None]
        score = {"score": sum(scores) / len(scores)} if scores else {}
        kept = self.project.supported(results, writer, item.location)
        return {"model_version": layer.removeprefix(PREDICTIONS), "result": kept, **score}


def image_ids_of(task: Mapping[str, Any]) -> list[str]:
    """curate's own ids of a task's images."""
    images = mapping(mapping(mapping(task.get("meta")).get(OWN)).get("images"))
    return [own for image in images.values() if (own := text(mapping(image).get("image_id")))]


def _count(tasks: Iterable[Mapping[str, Any]], kind: str) -> int:
    return sum(len(task.get(kind, ())) for task in tasks)


def _batches(items: Sequence[NewItem]) -> Iterator[list[NewItem]]:
    """Items in batches that a server takes in one request."""
    batch: list[NewItem] = []
    size = 0
    for item in items:
        try:
            bytes_ = item.path.stat().st_size
        except OSError as error:
            raise _unreadable(item, error) from error
        if batch and (len(batch) == _FILES_OF_A_BATCH or size + bytes_ > _BYTES_OF_A_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += bytes_
    if batch:
        yield batch


def _by_layer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    layers: dict[str, list[Row]] = {}
    for row in rows:
        layers.setdefault(row["layer"], []).append(row)
    return layers


def _key(item: NewItem) -> str:
    """What a file's name on the server begins with: the same image with other bytes is another file."""
    return f"{item.image_id}-{item.content_hash[:8]}"


def _by_key(files: Sequence[str]) -> dict[str, str]:
    """Uploaded files by what `_key` gives; the server puts eight digits of its own before each name."""
    named = (re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{16}-[^-]{8})-.*", file.rpartition("/")[2]) for file in files)
    return {match[1]: file for match, file in zip(named, files, strict=True) if match}


def _content(item: NewItem) -> bytes:
    try:
        return item.path.read_bytes()
    except OSError as error:
        raise _unreadable(item, error) from error


def _unreadable(item: NewItem, error: OSError) -> ImageError:
    return ImageError(f"the file cannot be read: {error.strerror or error}", where=item.path)


def _ending(location: str, content: bytes) -> str | None:
    """The ending that a browser and the server know a file by; None if they know no such files."""
    ending = PurePosixPath(location).suffix.lower()
    if ending in _SHOWN:
        return ending
    return next((known for sign, known in _SIGNS.items() if content.startswith(sign)), None)
