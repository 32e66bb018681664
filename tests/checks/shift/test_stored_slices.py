"""Slices are kept with the dataset, are replaced by the next run, and go back with it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.checks.shift.stored import Slice, find_slice, read_slices, short_names, slug, store_slices
from curate.dataset import begin, open_dataset, undo
from curate.dataset.schema import IMAGES
from curate.errors import UsageError

IDS = [f"{number:016x}" for number in range(6)]


def ids(*numbers: int) -> pa.StringArray:
    return pa.array([IDS[number] for number in numbers], pa.string())


DARK = Slice(
    "dark, warm",
    "light",
    ids(0, 2, 3),
    fails=True,
    error=0.75,
    rest=0.125,
    p_value=0.001,
    errors_by="predictions/model",
    mAP50=0.25,
    mAP50_rest=0.875,
    metadata="lamp LED 100% (0%)",
    classes="nut 60% (40%)",
    measured=({"axis": "brightness", "median": 21.0, "rest": 48.5, "effect": -0.9},),
)
WORD = Slice("dark (brightness <= 21)", "axis", ids(0))
SHIFT_ONE = Slice("lamp LED", "metadata", ids(1, 4))
SHIFT_TWO = Slice("lamp: LED", "metadata", ids(5))


@pytest.fixture
def dataset() -> str:
    row: dict[str, object] = dict.fromkeys(IMAGES.names)
    with begin("set", command="test", create=True) as transaction:
        rows = [{**row, "image_id": each, "location": each, "content_hash": each, "tags": []} for each in IDS]
        transaction.append("images", [pa.Table.from_pylist(rows, schema=IMAGES)])
    return "set"


def store(*slices: Slice) -> None:
    with begin("set", command="curate shift") as transaction:
        store_slices(transaction, slices)


def test_what_is_kept_is_read_back_in_its_order(dataset: str) -> None:
    assert read_slices(open_dataset(dataset)) == {}
    store(DARK, WORD, SHIFT_ONE)
    assert list(read_slices(open_dataset(dataset)).values()) == [DARK, WORD, SHIFT_ONE]
    with begin(dataset, command="test") as transaction:
        assert list(read_slices(transaction)) == [DARK.name, WORD.name, SHIFT_ONE.name]


def test_the_next_run_replaces_them_and_an_undo_brings_them_back(dataset: str) -> None:
    store(DARK, WORD)
    store(WORD)
    assert list(read_slices(open_dataset(dataset))) == [WORD.name]
    undo(dataset, command="curate undo")
    assert list(read_slices(open_dataset(dataset)).values()) == [DARK, WORD]
    store()
    assert read_slices(open_dataset(dataset)) == {}


def test_the_same_again_makes_no_commit(dataset: str) -> None:
    store(DARK, WORD)
    commit = open_dataset(dataset).commit.number
    store(DARK, WORD)
    assert open_dataset(dataset).commit.number == commit
    # As many images, but not the same.
    store(Slice(WORD.name, "axis", ids(5)), DARK)
    assert open_dataset(dataset).commit.number == commit + 1


def test_images_that_are_gone_are_in_no_slice(dataset: str) -> None:
    store(DARK, WORD)
    with begin(dataset, command="test") as transaction:
        transaction.delete("images", "image_id", ids(0, 3))
    found = read_slices(open_dataset(dataset))
    assert found[DARK.name].image_ids.to_pylist() == [IDS[2]]
    assert len(found[WORD.name]) == 0


def test_a_number_that_is_not_known_is_none(dataset: str) -> None:
    store(Slice("small", "axis", ids(0), error=float("nan"), rest=0.5))
    (found,) = read_slices(open_dataset(dataset)).values()
    assert (found.error, found.rest, found.p_value) == (None, 0.5, None)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("dark, warm", DARK),
        ("dark_warm", DARK),
        ("Dark-Warm", DARK),
        ("dark", WORD),
        ("dark_brightness_21", WORD),
        ("dark_bright", WORD),
        ("dark_w", DARK),
        ("lamp LED", SHIFT_ONE),
        ("lamp: LED", SHIFT_TWO),
    ],
)
def test_a_name_may_be_written_loosely(name: str, found: Slice) -> None:
    slices = {each.name: each for each in (DARK, WORD, SHIFT_ONE, SHIFT_TWO)}
    assert find_slice(slices, name) is found


def test_an_unknown_or_unclear_name_is_told_with_the_slices_there_are() -> None:
    slices = {each.name: each for each in (DARK, WORD, SHIFT_ONE, SHIFT_TWO)}
    with pytest.raises(UsageError, match=r"--target: there is no slice 'warm' .near ones: dark_warm; 'curate shift'"):
        find_slice(slices, "warm", where="--target")
    with pytest.raises(UsageError, match=r"may be any of 2 slices .one of: lamp LED, lamp: LED;"):
        find_slice(slices, "lamp_led")
    with pytest.raises(UsageError, match="run 'curate shift' first"):
        find_slice({}, "dark")


def test_the_same_images_under_two_names_are_no_choice() -> None:
    ids = pa.array(["a", "b"])
    same = {each: Slice(each, "light", ids) for each in ("lighting dim (light)", "lighting dim (metadata)")}
    assert find_slice(same, "lighting_dim").image_ids.equals(ids)
    other = {**same, "lighting dim (metadata)": Slice("lighting dim (metadata)", "metadata", ids[:1])}
    with pytest.raises(UsageError, match=r"one of: lighting_dim_light, lighting_dim_metadata;"):
        find_slice(other, "lighting_dim")


def test_the_shortest_name_to_type_finds_its_own_slice_and_does_not_hang_on_limits() -> None:
    names = ["even light, strong light, lifted shadows", "even light (unevenness <= 0.06)", "dark (brightness <= 21)",
             "dark (mid-tones <= 0.18)", "lighting ring", "lighting ring-2"]  # fmt: skip
    short = short_names(names)
    assert list(short.values()) == [
        "even_light_strong_light", "even_light", "dark_brightness", "dark_mid_tones", "lighting_ring", "lighting_ring_2",
    ]  # fmt: skip
    slices = {name: Slice(name, "axis", pa.array([], pa.string())) for name in names}
    assert all(find_slice(slices, short[name]) is slices[name] for name in names)


def test_a_slug_is_of_letters_digits_and_underscores() -> None:
    assert slug("Dim light, Straße (x <= 0.5)") == "dim_light_strasse_x_0_5"
