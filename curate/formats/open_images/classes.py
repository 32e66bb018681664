"""The classes of Open Images: MIDs ('/m/0cmf2'), what people call them, and which is part of which."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from curate.errors import CurateError
from curate.formats.base import ClassInfo
from curate.formats.files import read_text
from curate.formats.losses import LossReport
from curate.formats.open_images.tables import TableFile
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, sequence, text

_MOST_LISTED: Final = 1000


class Classes:
    """Names by MID.

    Args:
        files: The class descriptions; a MID in several has the first one's name.
        losses: Gets names that two MIDs have.
    """

    def __init__(self, files: Iterable[TableFile], losses: LossReport) -> None:
        self.names: dict[str, str] = {}
        taken: set[str] = set()
        for file in files:
            for mid, name in _rows(file, losses):
                if mid in self.names:
                    continue
                if name in taken:
                    losses.converted("classes", "two classes of one name: the MID is added", f"{mid}: {name}")
                    name = f"{name} ({mid})"
                taken.add(name)
                self.names[mid] = name

    def name(self, mid: str) -> str:
        """What people call a class; its MID where nothing says."""
        return self.names.get(mid, mid)

    def listed(self, used: Sequence[str], tree: Any, losses: LossReport) -> tuple[list[ClassInfo], dict[str, object]]:
        """The dataset's classes, and what there is to keep of them.

        The list of all 20,000 classes is cut down to those that are used.

        Args:
            used: MIDs that annotations have.
            tree: The hierarchy file's content, or None.
            losses: Gets MIDs without a name, and how many classes were left out.
        """
        for mid in used:
            if self.names and mid not in self.names:
                losses.converted("classes", "no class description names it: called by its MID", mid)
        mids = list(dict.fromkeys([*self.names, *used]))
        if len(mids) > _MOST_LISTED:
            wanted = set(used)
            losses.dropped("classes", "nothing has them", "class descriptions", len(mids) - len(wanted))
            mids = [mid for mid in mids if mid in wanted]
        parents = _parents(tree)
        infos = [ClassInfo(self.name(mid), supercategory=self.names.get(parents.get(mid, ""))) for mid in mids]
        said: dict[str, object] = {"mids": {self.name(mid): mid for mid in mids}}
        if tree is not None and is_shallow(tree):
            said["hierarchy"] = tree
        return infos, {"open_images": said}


def read_hierarchy(paths: Iterable[Path], losses: LossReport) -> Any:
    """The tree in the first file that has one, or None."""
    for path in paths:
        try:
            tree = read_json(path)
        except CurateError as error:
            losses.dropped("annotation files", "the hierarchy cannot be read", f"{path.name}: {error.what}")
            continue
        if text(mapping(tree).get("LabelName")):
            return tree
    return None


def _rows(file: TableFile, losses: LossReport) -> list[tuple[str, str]]:
    try:
        lines = read_text(file.path).splitlines()
        rows = [row for row in csv.reader(lines) if row]
    except (CurateError, csv.Error) as error:
        losses.dropped("annotation files", "the class descriptions cannot be read", f"{file.name}: {error}")
        return []
    if rows and rows[0][:2] == ["LabelName", "DisplayName"]:
        rows = rows[1:]
    good = [(row[0].strip(), row[1].strip()) for row in rows if len(row) >= 2 and row[0].strip() and row[1].strip()]
    losses.dropped("classes", "a line without a MID and a name", file.name, len(rows) - len(good))
    return good


def _parents(tree: Any) -> dict[str, str]:
    """The first class that each one is a kind of."""
    parents: dict[str, str] = {}
    queue = [mapping(tree)]
    for node in queue:
        parent = text(node.get("LabelName"))
        for child in map(mapping, sequence(node.get("Subcategory"))):
            mid = text(child.get("LabelName"))
            if mid and parent and mid != parent:
                parents.setdefault(mid, parent)
            queue.append(child)
    return parents
