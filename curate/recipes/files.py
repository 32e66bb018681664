"""Recipes as files: what `albumentations.load(path, data_format="yaml")` reads, and one key more.

    __version__: 2.0.8
    transform:
      __class_fullname__: Compose
      p: 1.0
      transforms:
      - __class_fullname__: RandomGamma
        gamma_limit: [150, 250]
        p: 1.0
    curate:
      name: night
      description: ...

albumentations leaves `curate` alone. Files are data: they name transforms from a list and can make nothing else.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from curate.errors import InputError, UsageError
from curate.files import in_folder, write_atomic
from curate.recipes import backend
from curate.recipes.plain import in_plain
from curate.recipes.recipe import Recipe, Step

NAMED: Final[tuple[str, ...]] = (
    "conveyor_motion",
    "dirty_lens",
    "fog_with_depth",
    "jpeg_stream",
    "low_sun_glare",
    "new_lamp_3000K",
    "night",
    "rain",
    "rolling_shutter",
)
"""Recipes that come with curate."""

_NAME: Final = "__class_fullname__"
_MOST_BYTES: Final = 1 << 20
_MOST_STEPS: Final = 1000
_DEEPEST: Final = 20
_REMEDY: Final = (
    "write one with curate augment, curate.recipes.write_recipe or albumentations.save(..., data_format='yaml')"
)
_WRAPPING: Final = frozenset({"Compose", "ReplayCompose"})


class _Dumper(yaml.SafeDumper):
    """Mappings over several lines, lists of numbers and names within one."""


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    short = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=short)


_Dumper.add_representer(list, _list)
_Dumper.ignore_aliases = lambda dumper, value: True  # type: ignore[method-assign,assignment]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe that comes with curate, by its name, or one in a file.

    Raises:
        InputError: There is none of that name, or the file is none.
    """
    text = str(name_or_path)
    if text in NAMED:
        return named_recipe(text)
    path = Path(name_or_path)
    if not path.exists() and not path.suffix:
        raise _unknown_name(text)
    return read_recipe(path)


def named_recipe(name: str, severity: float = 1.0) -> Recipe:
    """A recipe that comes with curate.

    Args:
        name: One of `NAMED`.
        severity: 0 for nothing to 1 for all (`curate.recipes.severity.at_severity`).

    Raises:
        InputError: There is none of that name.
    """
    if name not in NAMED:
        raise _unknown_name(name)
    file = resources.files("curate.recipes") / "library" / f"{name}.yaml"
    recipe = _recipe(yaml.safe_load(file.read_text(encoding="utf-8")), name, name)
    if severity == 1:
        return recipe
    from curate.recipes.severity import at_severity

    return at_severity(recipe, severity)


def read_recipe(path: str | Path) -> Recipe:
    """A recipe in a YAML or JSON file.

    Raises:
        InputError: The file is not there, is no recipe, or names a transform, parameter or value that there is not.
    """
    file = Path(path)
    recipe = _recipe(_content(file), str(file), file.stem)
    return replace(recipe, folder=file.resolve().parent)


def write_recipe(recipe: Recipe, path: str | Path, *, plain: bool = False) -> list[str]:
    """Write a recipe that `read_recipe` and `albumentations.load` read.

    Args:
        recipe: The recipe.
        path: File that is written or replaced; YAML.
        plain: Whether albumentations without curate can read it: our own transforms are replaced by the nearest of its own.

    Returns:
        What was lost by that, one sentence each.

    Raises:
        InputError: The recipe names something that there is not.
        UsageError: The file's folder is not there, or something is that is no file.
    """
    file = require_recipe_file(path)
    validate(recipe)
    lost: list[str] = []
    if plain:
        steps, lost = in_plain(recipe.steps)
        recipe = replace(recipe, steps=steps)
    about = {"name": recipe.name, **recipe.about}
    if recipe.about.get("references"):
        about["references"] = _moved_references(recipe, file)
    content = {
        "__version__": backend.VERSION,
        "transform": {_NAME: "Compose", "p": 1.0, "transforms": [_written(step) for step in recipe.steps]},
        "curate": _native(about),
    }
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_atomic(file, text.encode())
    return lost


def own_transforms(recipe: Recipe) -> tuple[str, ...]:
    """Names of the transforms that albumentations cannot read where there is no curate; each once."""
    waiting, found = list(recipe.steps), dict[str, None]()
    while waiting:
        step = waiting.pop(0)
        if backend.is_own(step.transform):
            found[step.transform] = None
        waiting += step.steps
    return tuple(found)


def require_recipe_file(path: str | Path) -> Path:
    """See that a recipe can be written to a file, before there is one.

    Raises:
        UsageError: Its folder is not there, or something is that is no file.
    """
    return in_folder(Path(path))


def validate(recipe: Recipe) -> None:
    """See that every step can be made.

    Raises:
        InputError: One cannot: the error names it.
    """
    for number, step in enumerate(recipe.steps, 1):
        backend.make(step, f"{recipe.name}, step {number}")


def _content(file: Path) -> Any:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError("the file is too large for a recipe", where=file, remedy=_REMEDY)
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"the recipe cannot be read: {error.strerror}", where=file, remedy="check the path") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = file if mark is None else f"{file}, line {mark.line + 1}, column {mark.column + 1}"
        raise InputError(f"the file is not YAML: {error.problem}", where=place, remedy=_REMEDY) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "YAML"
        reason = str(error).partition("\n")[0]
        raise InputError(f"the file is not {kind}: {reason}", where=file, remedy=_REMEDY) from error


def _recipe(content: Any, where: str, name: str) -> Recipe:
    if not isinstance(content, Mapping) or not isinstance(content.get("transform"), Mapping):
        raise InputError(
            "the file is no recipe: it has no key 'transform' with a transform", where=where, remedy=_REMEDY
        )
    about = content.get("curate") or {}
    if not isinstance(about, Mapping):
        raise InputError("what it says under 'curate' is no mapping", where=where, remedy=_REMEDY)
    _require_references(about.get("references") or {}, where)
    counted = [0]
    top = _step(content["transform"], where, counted, 0)
    steps = top.steps if top.transform == "Compose" and top.p == 1 else (top,)
    rest = {str(key): value for key, value in about.items() if key != "name"}
    recipe = Recipe(str(about.get("name", name)), steps, rest)
    for number, step in enumerate(steps, 1):
        backend.make(step, f"{where}, step {number}")
    return recipe


def _step(content: Any, where: str, counted: list[int], depth: int) -> Step:
    """A step as the file has it; whether there is such a transform is seen later."""
    counted[0] += 1
    # A few lines of YAML aliases can stand for more steps than there is memory.
    if counted[0] > _MOST_STEPS or depth > _DEEPEST:
        raise InputError(
            f"it has more than {_MOST_STEPS} steps, or {_DEEPEST} in one another", where=where, remedy=_REMEDY
        )
    if not isinstance(content, Mapping) or not isinstance(content.get(_NAME), str):
        raise InputError(f"a step has no {_NAME}, the name of its transform", where=where, remedy=_REMEDY)
    name = backend.class_name(content[_NAME])
    is_group = name in backend.GROUPS or "transforms" in content
    inner = content.get("transforms") if is_group else []
    if not isinstance(inner, list):
        raise InputError("its transforms are no list", where=f"{where}, {name}", remedy=_REMEDY)
    known = {_NAME, "p", "transforms"}
    params = {str(key): value for key, value in content.items() if key not in known}
    if name in _WRAPPING | {"Sequential", "OneOf", "OneOrOther"}:
        params = {}  # of boxes and keypoints, which are handled here
    _require_small(params, f"{where}, {name}")
    default = 1.0 if name in {"Compose", "Sequential"} else 0.5
    steps = tuple(_step(each, where, counted, depth + 1) for each in inner)
    return Step("Compose" if name in _WRAPPING else name, params, content.get("p", default), steps)


def _require_small(params: Mapping[str, Any], where: str) -> None:
    left = 10_000
    waiting: list[Any] = [params]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise InputError("its parameters are too many", where=where, remedy=_REMEDY)
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _require_references(named: Any, where: str) -> None:
    if not isinstance(named, Mapping) or not all(
        isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in named.values()
    ):
        said = "what it says under curate: references is no mapping of keys to lists of files"
        raise InputError(said, where=where, remedy="write it as in `fda_metadata: [first.png, second.png]`")


def _written(step: Step) -> dict[str, Any]:
    params = {name: _native(value) for name, value in step.params.items()}
    written = {_NAME: backend.full_name(step.transform), **params, "p": float(step.p)}
    return {**written, "transforms": [_written(each) for each in step.steps]} if step.steps else written


def _moved_references(recipe: Recipe, file: Path) -> dict[str, list[str]]:
    """The references' paths, relative to another file."""
    start = file.resolve().parent
    folder = recipe.folder or Path.cwd()
    return {
        str(key): [Path(os.path.relpath(folder / path, start)).as_posix() for path in paths]
        for key, paths in recipe.about["references"].items()
    }


def _native(value: Any) -> Any:
    """What `yaml.safe_dump` can write: numbers of numpy, tuples and paths among the rest."""
    if isinstance(value, Mapping):
        return {str(key): _native(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_native(inner) for inner in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return _native(value.tolist())
    return value


def _unknown_name(name: str) -> InputError | UsageError:
    near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.4)
    listed = f"near ones: {', '.join(near)}" if near else f"there are {', '.join(NAMED)}"
    return InputError(f"there is no recipe {name!r}", remedy=f"{listed}; or the path of a YAML file")
