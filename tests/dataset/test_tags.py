"""Tags of images, against doing it one image at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.dataset import begin, open_dataset, undo
from curate.dataset.ids import from_ids, image_ids
from curate.dataset.schema import IMAGES
from curate.dataset.tags import TagChanges, _retagged, checked_tag, write_tags
from curate.errors import UsageError

NAMES = [f"{number}.png" for number in range(5)]
TAGS = st.lists(st.none() | st.lists(st.sampled_from(["night", "day", "mine", "old"]), max_size=4), max_size=12)


def one(tags: list[str] | None, given: str | None, group: list[str], replace: bool) -> list[str] | None:
    kept = [tag for tag in tags or [] if not (replace and tag in group and tag != given)]
    if given is not None and given not in kept:
        kept.append(given)
    return kept or None


@given(TAGS, st.data(), st.booleans())
def test_equals_one_image_at_a_time(tags: list[list[str] | None], data: st.DataObject, replace: bool) -> None:
    new = data.draw(st.lists(st.none() | st.sampled_from(["night", "day"]), min_size=len(tags), max_size=len(tags)))
    before, given = pa.array(tags, pa.list_(pa.string())), pa.array(new, pa.string())
    after, differs, changes = _retagged(before, given, ["night", "day"], replace=replace)
    expected = [one(*pair, ["night", "day"], replace) for pair in zip(tags, new, strict=True)]
    assert after.to_pylist() == expected
    changed = [(a or None) != b for a, b in zip(tags, expected, strict=True)]
    assert differs.to_pylist() == changed
    assert changes.images == sum(changed)
    assert changes.added.total() == sum(n is not None and n not in (t or []) for t, n in zip(tags, new, strict=True))
    assert changes.others.total() == sum(
        tag in ("night", "day") and tag != n for t, n in zip(tags, new, strict=True) for tag in t or []
    )


@pytest.fixture
def dataset() -> str:
    """Five images; the second has tags of its own."""
    tags: list[list[str] | None] = [None] * 5
    tags[1] = ["mine", "night"]
    rows = {"image_id": image_ids(NAMES), "location": NAMES, "tags": tags}
    columns = [pa.array(rows.get(field.name, [None] * 5), field.type) for field in IMAGES]
    with begin("set", command="test", create=True) as transaction:
        transaction.append("images", [pa.table(columns, schema=IMAGES)])
    return "set"


def put(names: list[str], tags: list[str | None], *, replace: bool = False, dry_run: bool = False) -> TagChanges:
    with begin("set", command="test") as transaction:
        ids, given = from_ids(image_ids(names)), pa.array(tags, pa.string())
        return write_tags(transaction, ids, given, group=["night", "day"], replace=replace, dry_run=dry_run)


def tags_of(name: str) -> list[str] | None:
    rows = open_dataset("set").table("images", where=f"location = '{name}'")
    return rows["tags"][0].as_py()  # type: ignore[no-any-return]


def test_tags_are_put_behind_those_there(dataset: str) -> None:
    assert put(["3.png", "1.png", "0.png"], ["night", "day", None]).images == 2
    assert [tags_of(name) for name in NAMES] == [None, ["mine", "night", "day"], None, ["night"], None]
    store = open_dataset(dataset)
    assert store.count("images", where="array_has(tags, 'night')") == 2
    assert store.commit.counts == {"tags added": 2}


def test_replace_takes_the_others_of_the_group(dataset: str) -> None:
    changes = put(["1.png", "2.png"], ["day", None], replace=True)
    assert (changes.images, dict(changes.added), dict(changes.others)) == (1, {"day": 1}, {"night": 1})
    assert tags_of("1.png") == ["mine", "day"]
    assert open_dataset(dataset).commit.counts == {"tags added": 1, "tags removed": 1}
    put(["1.png"], [None], replace=True)
    assert tags_of("1.png") == ["mine"]


def test_again_changes_nothing_and_undo_brings_back(dataset: str) -> None:
    for _ in range(2):
        put(NAMES, ["day"] * 5, replace=True)
        assert open_dataset(dataset).commit.number == 2
    undo(dataset, command="undo")
    assert [tags_of(name) for name in NAMES[:2]] == [None, ["mine", "night"]]


def test_a_dry_run_writes_nothing(dataset: str) -> None:
    assert put(NAMES, ["day"] * 5, dry_run=True).images == 5
    assert open_dataset(dataset).commit.number == 1


def test_no_images(dataset: str) -> None:
    with begin(dataset, command="test") as transaction:
        assert write_tags(transaction, np.zeros(0, np.uint64), pa.array([], pa.string())).images == 0


def test_a_tag_is_a_text() -> None:
    assert checked_tag(" night ") == "night"
    with pytest.raises(UsageError, match="no tag"):
        checked_tag(" ")
