"""What the values or colors in mask images mean: the class lists that tools write beside them.

    classes.txt               a name on each line; the first is value 0
    _classes.csv              Roboflow: 'Pixel Value, Class'
    labelmap.txt              CVAT: 'name:r,g,b:parts:actions'; the first is value 0
    label_colors.txt          CamVid: 'r g b name'
    class_dict.csv            'name,r,g,b' (also labelmap.csv)
    dataset_meta.json         Datumaro: label_map, segmentation_colors, background_label

The kind is told by the content, so that any of them can be given by `--classes` under any name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt

from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.files import read_text
from curate.formats.losses import LossReport
from curate.formats.mask_images import VOID, VOID_COLOR, pack_colors, values_in
from curate.formats.trees import read_json
from curate.imaging import LabelImage

LIST_NAMES: Final = (
    "dataset_meta.json",
    "_classes.csv",
    "classes.txt",
    "labelmap.txt",
    "label_colors.txt",
    "class_dict.csv",
    "labelmap.csv",
    "labels.txt",
)
"""Names of class lists, the most telling first."""

_BACKGROUNDS: Final = ("background", "_background_", "unlabelled", "unlabeled", "void", "bg")
_IGNORED: Final = frozenset({"ignore", "ignored", "void"})
_VALUE_AND_NAME: Final = re.compile(r"(?P<value>\d{1,5})\s*,\s*(?P<name>.+)")
_LINES: Final = (
    re.compile(r"(?P<name>.+?):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+)(:.*)?"),
    re.compile(r"(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)\s+(?P<name>\S.*)"),
    re.compile(r"(?P<name>[^,]+?)\s*,\s*(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)"),
    _VALUE_AND_NAME,
)
_HEADERS: Final = frozenset({"pixel value, class", "name,r,g,b", "name, r, g, b"})

Role = Literal["class", "background", "ignore"]


@dataclass(frozen=True)
class MaskClass:
    """One line of a class list: a name, the value that stands for it, and its color as 0xrrggbb."""

    name: str
    value: int
    color: int | None = None


@dataclass(frozen=True)
class Legend:
    """What values and colors mean.

    Attributes:
        classes: Every class listed, background and ignored ones too.
        has_values: Whether the list numbers its classes, rather than only coloring them.
        background: The one of them that is not annotated.
        ignored: Those whose pixels count as nothing.
        is_plain: Whether it is nothing but names in their order.
        is_binary: Whether the masks show nothing but 0 and 255, so that 255 is a class.
    """

    classes: tuple[MaskClass, ...] = ()
    has_values: bool = True
    background: MaskClass | None = None
    ignored: tuple[MaskClass, ...] = ()
    is_plain: bool = False
    is_binary: bool = False

    @property
    def has_colors(self) -> bool:
        """Whether every class has a color of its own."""
        colors = [known.color for known in self.classes]
        return bool(colors) and None not in colors and len(set(colors)) == len(colors)

    def class_of(self, value: int, *, is_color: bool) -> MaskClass | None:
        """The class listed for a value, or for a color 0xrrggbb."""
        found = self._colored if is_color else self._valued
        return found.get(value)

    def role_of(self, value: int, *, is_color: bool) -> Role:
        """Whether a value or color is a class, listed or not, or background, or counts as nothing."""
        known = self.class_of(value, is_color=is_color)
        if known is not None:
            return "background" if known == self.background else "ignore" if known in self.ignored else "class"
        if value == 0 and self.background is None:
            return "background"
        is_void = value == VOID_COLOR if is_color else value == VOID and not self.is_binary
        return "ignore" if is_void else "class"

    def knows_color(self, color: int) -> bool:
        """Whether a color 0xrrggbb is listed, or needs no listing."""
        return self.class_of(color, is_color=True) is not None or self.role_of(color, is_color=True) != "class"

    @property
    def infos(self) -> list[ClassInfo]:
        """The classes that are annotated."""
        no_class = {*self.ignored, self.background}
        return [
            ClassInfo(known.name, source_id=known.value, color=color_text(known.color))
            for known in self.classes
            if known not in no_class
        ]

    def counted_from_one(self) -> Legend:
        """The same names for the values from 1, with 0 as background."""
        classes = [replace(known, value=known.value + 1) for known in self.classes]
        return replace(make_legend(classes, has_values=self.has_values), is_plain=self.is_plain)

    @property
    def _valued(self) -> dict[int, MaskClass]:
        return {known.value: known for known in reversed(self.classes)}

    @property
    def _colored(self) -> dict[int, MaskClass]:
        return {known.color: known for known in reversed(self.classes) if known.color is not None}


def color_text(color: int | None) -> str | None:
    """0xrrggbb as '#rrggbb'."""
    return None if color is None else f"#{color:06x}"


def make_legend(classes: Sequence[MaskClass], *, has_values: bool, background: int | None = None) -> Legend:
    """A legend from the classes listed.

    Args:
        classes: As listed.
        has_values: Whether the list numbers them.
        background: Value of the background where the list names it; else its name tells.
    """
    rank = {name: place for place, name in enumerate(_BACKGROUNDS)}
    named = [known for known in classes if known.name.lower() in rank]
    chosen = min(named, key=lambda known: rank[known.name.lower()], default=None)
    chosen = next((known for known in classes if known.value == background), chosen)
    ignored = tuple(known for known in classes if known.name.lower() in _IGNORED and known != chosen)
    return Legend(tuple(classes), has_values, chosen, ignored)


def read_legend(paths: Iterable[Path]) -> Legend:
    """The first of some class lists; where it has no colors, they are taken from the next that knows the same names.

    Raises:
        FormatError: A list cannot be read.
    """
    found = Legend()
    for path in paths:
        legend = _read_json(path) if path.suffix.lower() == ".json" else _read_lines(path)
        if not found.classes:
            found = legend
            continue
        colors = {known.name: known.color for known in legend.classes}
        colored = [replace(known, color=colors.get(known.name, known.color)) for known in found.classes]
        background = None if found.background is None else found.background.value
        legend = make_legend(colored, has_values=found.has_values, background=background)
        found = replace(legend, is_plain=found.is_plain)
    return found


def report_names(classes: Sequence[MaskClass], background: MaskClass | None, losses: LossReport) -> None:
    """Report, for an export, the classes whose names say that they are none, so that they would not be read back."""
    legend = make_legend([*classes, *([background] if background else [])], has_values=True)
    for known in classes:
        if known == legend.background or known in legend.ignored:
            losses.converted("classes", "tools take a class of this name for none", known.name)


def label_map(classes: Iterable[MaskClass]) -> str:
    """The content of CVAT's labelmap.txt."""
    rows = ["# label:color_rgb:parts:actions"]
    rows += [f"{known.name}:{','.join(map(str, channels(known.color or 0)))}::" for known in classes]
    return "".join(f"{row}\n" for row in rows)


def one_line(name: str) -> str:
    """A class's name as one line of a list."""
    return re.sub(r"\s*[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+\s*", " ", name).strip()


def channels(color: int) -> tuple[int, int, int]:
    """Red, green and blue of 0xrrggbb."""
    return color >> 16, color >> 8 & 255, color & 255


def resolve(labels: LabelImage, legend: Legend) -> tuple[npt.NDArray[Any], bool]:
    """What is to be looked up in a legend, and whether it is a color.

    Args:
        labels: A mask, of values or of colors.
        legend: Without values of its own, a palette's colors go before its indices.

    Returns:
        Values, or colors 0xrrggbb; shape (height, width).
    """
    values = labels.values
    if values.ndim == 3:
        # Many tools save one channel three times.
        is_grey = legend.classes and not legend.has_colors and bool((values == values[..., :1]).all())
        return (values[..., 0], False) if is_grey else (pack_colors(values), True)
    if labels.palette is not None and legend.has_colors and not legend.has_values:
        used, colors = values_in(values), pack_colors(labels.palette)
        if used.size and used.max() < len(colors) and all(map(legend.knows_color, colors[used].tolist())):
            return colors[values], True
    return values, False


def _read_lines(path: Path) -> Legend:
    lines = [line.strip() for line in read_text(path).splitlines()]
    # Comments stand at the head only: further down '#1' may be a class.
    told = list(dropwhile(lambda line: line.startswith("#") or line.lower() in _HEADERS, filter(None, lines)))
    if not told:
        raise FormatError("the class list is empty", where=path, remedy="put one class name on each line")
    for pattern in _LINES:
        matches = [pattern.fullmatch(line) for line in told]
        if all(matches):
            parts = [match.groupdict() for match in matches if match is not None]
            return make_legend(
                [_parsed(each, place) for place, each in enumerate(parts)], has_values=pattern is _VALUE_AND_NAME
            )
    legend = make_legend([MaskClass(name, place) for place, name in enumerate(told)], has_values=True)
    return replace(legend, is_plain=True)


def _parsed(parts: dict[str, str], place: int) -> MaskClass:
    if "value" in parts:
        return MaskClass(parts["name"].strip(), int(parts["value"]))
    red, green, blue = (min(int(parts[channel]), 255) for channel in "rgb")
    return MaskClass(parts["name"].strip(), place, red << 16 | green << 8 | blue)


def _read_json(path: Path) -> Legend:
    content = read_json(path)
    label_map = content.get("label_map") if isinstance(content, dict) else None
    if not isinstance(label_map, dict):
        raise FormatError("there is no 'label_map' in the class list", where=path, remedy="give another by --classes")
    colors = content.get("segmentation_colors")
    colors = colors if isinstance(colors, list) else []
    classes = []
    for place, (key, name) in enumerate(label_map.items()):
        if isinstance(name, str) and re.fullmatch(r"\d{1,5}", key):
            classes.append(MaskClass(name, int(key), _color_of(colors[place]) if place < len(colors) else None))
    background = content.get("background_label")
    is_number = isinstance(background, str | int) and re.fullmatch(r"\d{1,5}", str(background))
    return make_legend(classes, has_values=True, background=int(str(background)) if is_number else None)


def _color_of(value: Any) -> int | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(isinstance(channel, int) and 0 <= channel <= 255 for channel in value):
        return None
    red, green, blue = value
    return int(red << 16 | green << 8 | blue)
