"""`curate search` as a user runs it: right results, what is written, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.dataset.schema import IMAGES
from curate.dataset.summary import summarize
from tests.models import colour_encoder
from tests.models.colour_encoder import COLOURS, paint


def curate(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def search(*arguments: str | Path, encoder: str = "colours") -> list[dict[str, Any]]:
    result = curate("search", "-d", "toys", "--encoder", encoder, "--json", *arguments)
    return [json.loads(line) for line in result.stdout.splitlines()]


def images(found: list[dict[str, Any]]) -> list[str]:
    return [row["image"] for row in found]


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that knows colours and their names."""
    colour_encoder.register(monkeypatch)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Images of one colour or two, with the two stripes of one of them annotated; returns their folder."""
    folder = tmp_path / "toys"
    for name in ("red", "green", "blue", "white"):
        paint(folder / f"{name}.png", COLOURS[name])
    paint(folder / "dark_red.png", (120, 20, 20))
    paint(folder / "red_and_blue.png", COLOURS["red"], COLOURS["blue"])
    boxes = [
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, 16, 16], "area": 256, "iscrowd": 0},
        {"id": 8, "image_id": 1, "category_id": 2, "bbox": [16, 0, 16, 16], "area": 256, "iscrowd": 0},
        {"id": 9, "image_id": 2, "category_id": 1, "bbox": [4, 4, 8, 8], "area": 64, "iscrowd": 0},
    ]
    names = ["green.png", "red_and_blue.png", "red.png", "blue.png", "white.png", "dark_red.png"]
    content = {
        "images": [{"id": n, "file_name": name, "width": 32, "height": 16} for n, name in enumerate(names)],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "brick"}, {"id": 2, "name": "tile"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    curate("import", folder / "labels.json", "-d", "toys")
    return folder


def test_a_text_finds_what_it_describes(toys: Path) -> None:
    found = search("a red toy")
    assert images(found)[:3] == ["red.png", "dark_red.png", "red_and_blue.png"]
    assert found[0] == {
        "rank": 1,
        "score": pytest.approx(1, abs=1e-3),
        "image": "red.png",
        "image_id": found[0]["image_id"],
        "path": str(toys / "red.png"),
    }
    assert found[2]["score"] == pytest.approx(0.5**0.5, abs=1e-3)
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert images(search("something blue", "-n", "2")) == ["blue.png", "red_and_blue.png"]


def test_an_image_file_outside_of_the_dataset(toys: Path, tmp_path: Path) -> None:
    paint(tmp_path / "query.jpg", (90, 0, 0))
    assert images(search("--image", tmp_path / "query.jpg", "--limit", "3")) == [
        "red.png",
        "dark_red.png",
        "red_and_blue.png",
    ]


def test_an_image_of_the_dataset_is_not_among_its_own_results(toys: Path) -> None:
    (red, *_) = search("red")
    expected = ["dark_red.png", "red_and_blue.png", "white.png"]
    for like in ("red.png", red["image_id"], red["image_id"][:6]):
        found = search("--like", like)
        assert len(found) == 5
        assert images(found)[:3] == expected


def test_copies_come_first_and_in_the_order_of_their_ids(toys: Path) -> None:
    for name in ("a", "b", "c"):
        (toys / f"copy_{name}.png").write_bytes((toys / "red.png").read_bytes())
    (toys / "labels.json").unlink()
    curate("import", toys, "-d", "toys")
    found = search("--like", "red.png")[:3]
    assert {row["image"] for row in found} == {"copy_a.png", "copy_b.png", "copy_c.png"}
    assert [row["image_id"] for row in found] == sorted(row["image_id"] for row in found)
    assert [row["score"] for row in found] == [1.0] * 3


def test_objects(toys: Path) -> None:
    found = search("blue", "--crops")
    assert found[0]["image"] == "red_and_blue.png"
    assert (found[0]["bbox"], found[0]["label"]) == ([16.0, 0.0, 16.0, 16.0], "tile")
    assert len(found) == 3
    assert len({row["annotation_id"] for row in found}) == 3
    red = search("red", "--crops", "-n", "1")[0]
    like = search("--like", red["annotation_id"], "--crops")
    assert red["annotation_id"] not in {row["annotation_id"] for row in like}
    assert [row["label"] for row in like] == ["brick", "tile"]
    of_one_image = search("--like", red["annotation_id"], "--crops", "--where", "location = 'red_and_blue.png'")
    assert {row["image"] for row in of_one_image} == {"red_and_blue.png"}
    table = curate("search", "blue", "-d", "toys", "--crops", "--encoder", "colours").stdout
    assert found[0]["annotation_id"] in table
    assert "16 0 16 16" in table


def test_where_and_a_lowest_score(toys: Path) -> None:
    assert images(search("red", "--where", "location LIKE '%red%'", "-n", "9")) == [
        "red.png",
        "dark_red.png",
        "red_and_blue.png",
    ]
    # What is looked for need not be among what is searched.
    assert images(search("--like", "red.png", "--where", "location = 'blue.png'")) == ["blue.png"]
    assert images(search("red", "--min-score", "0.9")) == ["red.png", "dark_red.png"]
    result = curate(
        "search", "blue", "-d", "toys", "--min-score", "1", "--encoder", "colours", "--where", "path = ''", status=2
    )
    assert "there are no images" in result.stderr
    assert (
        "nothing found" in curate("search", "yellow", "-d", "toys", "--min-score", "1", "--encoder", "colours").stdout
    )


def test_only_embeddings_are_written_and_once(toys: Path) -> None:
    before = open_dataset("toys").commit
    search("red", "--where", "location = 'red.png'")
    first = open_dataset("toys").commit
    assert first.number == before.number + 1
    assert first.counts == {"images embedded": 1}
    assert first.info == before.info
    search("red")
    assert open_dataset("toys").commit.counts == {"images embedded": 5}
    search("blue")
    search("--like", "red.png", encoder="colours")
    assert open_dataset("toys").commit.number == first.number + 1


def test_the_dataset_s_own_encoder_is_used_and_kept(toys: Path) -> None:
    curate("embed", "-d", "toys", "--encoder", "colours")
    number = open_dataset("toys").commit.number
    table = curate("search", "red", "-d", "toys", "-n", "2").stdout
    assert "toys: 6 images searched by colours" in table
    assert table.index("red.png") < table.index("dark_red.png")
    assert open_dataset("toys").commit.number == number
    search("--like", "red.png", encoder="builtin")
    assert open_dataset("toys").commit.info["encoder"] == "colours"


def test_results_are_tagged_and_undo_takes_it_back(toys: Path) -> None:
    search("red")
    number = open_dataset("toys").commit.number
    result = curate("search", "red", "-d", "toys", "--encoder", "colours", "-n", "2", "--tag", "reddish")
    assert "2 images tagged 'reddish'" in result.stderr
    dataset = open_dataset("toys")
    assert dataset.commit.number == number + 1
    assert dataset.commit.counts == {"tags added": 2}
    assert images(search("blue", "--where", "array_has(tags, 'reddish')")) == ["dark_red.png", "red.png"]
    result = curate("search", "red", "-d", "toys", "--encoder", "colours", "-n", "3", "--tag", "reddish")
    assert "1 image tagged 'reddish', 2 had it" in result.stderr
    curate("search", "red", "-d", "toys", "--encoder", "colours", "-n", "3", "--tag", "reddish")
    assert open_dataset("toys").commit.number == number + 2
    curate("undo", "-d", "toys")
    assert open_dataset("toys").count("images", where="array_has(tags, 'reddish')") == 2
    assert summarize(open_dataset("toys"))["tags"] == {"reddish": 2}
    assert "reddish 2" in curate("info", "toys").stdout


def test_objects_tag_their_images_once(toys: Path) -> None:
    curate("search", "red", "-d", "toys", "--encoder", "colours", "--crops", "--tag", "seen")
    dataset = open_dataset("toys")
    assert sorted(dataset.table("images", where="array_has(tags, 'seen')")["location"].to_pylist()) == [
        "red.png",
        "red_and_blue.png",
    ]


def test_while_another_process_writes(toys: Path) -> None:
    search("red", "--where", "location <> 'blue.png'")
    with begin("toys", command="something long"):
        result = curate("search", "red", "-d", "toys", "--encoder", "colours", "--json")
        assert [json.loads(line)["image"] for line in result.stdout.splitlines()][:2] == ["red.png", "dark_red.png"]
        assert len(result.stdout.splitlines()) == 5
        assert "1 image not embedded yet" in result.stderr
        assert (
            "not embedded yet"
            in curate("search", "-d", "toys", "--encoder", "colours", "--like", "blue.png", status=2).stderr
        )
        result = curate("search", "red", "-d", "toys", "--encoder", "colours", "--tag", "x", status=2)
        assert "another process is writing" in result.stderr


def test_images_that_cannot_be_read(toys: Path) -> None:
    (toys / "red.png").write_bytes(b"no image")
    result = curate("search", "red", "-d", "toys", "--encoder", "colours", "--json")
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()][:1] == ["dark_red.png"]
    assert "1 image cannot be read; the first: " in result.stderr
    result = curate("search", "--like", "red.png", "-d", "toys", "--encoder", "colours", status=2)
    assert str(toys / "red.png") in result.stderr
    # Known vectors of files that are gone are not searched either.
    (toys / "dark_red.png").unlink()
    assert images(search("red"))[0] == "red_and_blue.png"
    for path in toys.glob("*.png"):
        path.unlink()
    result = curate("search", "red", "-d", "toys", "--encoder", "colours", status=2)
    assert "not one of 6 images can be read" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one thing is looked for at a time"),
        (("red", "--image", "q.png"), "one thing is looked for at a time"),
        (("--image", "q.png", "--like", "red.png"), "one thing is looked for at a time"),
        (("  ",), "an empty text describes nothing"),
        (("q.png",), "--image searches by a file"),
        (("--image", "none.png"), "the image file is not there"),
        (("--image", "text.png"), "text.png"),
        (("--like", "none.png"), "the dataset has no image 'none.png'"),
        (("--like", "0123456789abcdef"), "the dataset has no image"),
        (("--like", "' OR true --"), "the dataset has no image"),
        (("--like", "red.png", "--crops"), "the dataset has no annotation 'red.png'"),
        (("red", "--crops", "--layer", "predictions/none"), "the layer 'predictions/none' has no boxes"),
        (("red", "--crops", "--where", "location = 'blue.png'"), "has no boxes"),
        (("red", "--where", "location = 'none'"), "there are no images"),
        (("red", "--where", "colour = 'red'"), "the condition cannot be understood"),
        (("red", "--min-score", "2"), "2 is no cosine"),
        (("red", "--min-score", "nan"), "nan is no cosine"),
        (("red", "-n", "0"), "Invalid value for '-n'"),
        (("red", "--tag", " "), "an empty text is no tag"),
        (("red", "--tag", "\udcff"), "is not UTF-8"),
        (("red", "--encoder", "builtin"), "knows images only, no texts"),
        (("red", "--encoder", "none"), "there is no encoder named 'none'"),
    ],
)
def test_wrong_use(toys: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toys.parent)
    paint(Path("q.png"), COLOURS["red"])
    Path("text.png").write_text("no image")
    before = open_dataset("toys").commit.number
    chosen = () if "--encoder" in arguments else ("--encoder", "colours")
    result = curate("search", "-d", "toys", *arguments, *chosen, status=2)
    assert message in result.stderr
    assert open_dataset("toys").commit.number == before


def test_texts_want_an_encoder_that_knows_them_and_the_error_names_one(toys: Path) -> None:
    result = curate("search", "red", "-d", "toys", "--encoder", "builtin", status=2)
    assert "do: " in result.stderr
    assert "--encoder clip:" in result.stderr


def test_a_beginning_that_fits_several_ids() -> None:
    ids = ["abcd000000000000", "abcd111111111111"]
    columns = [
        pa.array({"image_id": ids, "location": ["a.png", "b.png"]}.get(field.name, [None, None]), field.type)
        for field in IMAGES
    ]
    with begin("toys", command="test", create=True) as transaction:
        transaction.append("images", [pa.table(columns, schema=IMAGES)])
    result = curate("search", "-d", "toys", "--encoder", "colours", "--like", "abcd", status=2)
    assert "2 images have an id that begins with 'abcd'" in result.stderr
    assert all(each in result.stderr for each in ids)


def test_an_empty_dataset(tmp_path: Path) -> None:
    with begin("toys", command="test", create=True):
        pass
    result = curate("search", "red", "-d", "toys", "--encoder", "colours", status=2)
    assert "there are no images" in result.stderr


def test_builtin_finds_a_transformed_copy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        y, x = np.mgrid[:64, :64]
        wave = 110 + 60 * np.sin(x / rng.uniform(2, 7) + y / rng.uniform(3, 30)) + rng.normal(0, 6, (64, 64))
        pixels = wave[..., None] * rng.uniform(0.4, 1.3, 3)
        path = tmp_path / "waves" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    curate("import", tmp_path / "waves", "-d", "toys")
    with Image.open(tmp_path / "waves" / "05.png") as image:
        image.resize((48, 48)).save(tmp_path / "query.jpg", quality=80)
    assert images(search("--image", tmp_path / "query.jpg", "-n", "1", encoder="builtin")) == ["05.png"]
