"""Exports of torch networks: made once, the same numbers, nothing bad left by failures, kills and racing processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.dataset.home import cache_folder
from curate.errors import CurateError, InputError, UnavailableError, UsageError
from curate.models.encoders.base import Encoder, NoTexts, TextEncoder, require_text
from curate.models.encoders.clip_tokenizer import ClipTokenizer
from curate.models.encoders.exported import Network, TextSide, is_exported, load_exported

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SIZE = (12, 16)
TOKENS = np.arange(20).reshape(4, 5)

# Run by another process: {0} stands for what happens when the text network runs.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import numpy as np, torch
from curate.models.encoders.clip_tokenizer import ClipTokenizer
from curate.models.encoders.exported import Network, TextSide, load_exported

class Text(torch.nn.Module):
    def forward(self, tokens):
        {0}
        return tokens[:, :3].float() + 1

def build():
    with open("built", "a") as file:
        file.write("x")
    torch.manual_seed(0)
    image = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    text = TextSide(Text(), np.arange(20).reshape(4, 5), "some-model", 10.0)
    return Network(image, (12, 16), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), text)

encoder = load_exported("toy", "toy", build, "f32")
print(encoder.encode([np.full((12, 16, 3), 99, np.uint8)]).round(3).tolist())
"""


def image_network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def network(image: Any, text: TextSide | NoTexts | None = None) -> Network:
    return Network(image, SIZE, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), text)


def load(build: Callable[[], Network]) -> Encoder:
    return load_exported("toy", "toy", build, "f32")


def never() -> Network:
    raise AssertionError("exported already")


def left_behind() -> list[str]:
    """What is in the cache besides locks."""
    folder = cache_folder() / "exported"
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")] if folder.is_dir() else []


def letters() -> ClipTokenizer:
    """A tokenizer that knows bytes only."""
    return ClipTokenizer(np.arange(256), np.zeros((0, 2), np.int64), start=1, end=2, context_length=10)


class Module(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A function as a network."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Any) -> Any:
        return self.function(rows)


def test_the_graph_gives_what_torch_gives_and_is_made_once() -> None:
    assert not is_exported("toy")
    encoder = load(lambda: network(image_network()))
    assert is_exported("toy")
    assert (encoder.name, encoder.dimensions, encoder.input_size) == ("toy", 6, 12)
    assert not isinstance(encoder, TextEncoder)

    pixels = np.random.default_rng(1).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    prepared = [encoder.prepare(image) for image in pixels]
    np.testing.assert_array_equal(prepared, pixels)  # of that size already
    normalised = (pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    with torch.inference_mode():
        expected = image_network()(torch.from_numpy(normalised.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    again = load(never)
    for count in (1, 5):
        np.testing.assert_allclose(encoder.encode(prepared[:count]), expected[:count], atol=1e-5)
        np.testing.assert_array_equal(again.encode(prepared[:count]), encoder.encode(prepared[:count]))
    assert len(left_behind()) == 1
    assert encoder.prepare(np.zeros((50, 90, 3), np.uint8)).shape == (*SIZE, 3)


def test_the_export_is_an_onnx_encoder_that_may_be_taken_elsewhere(tmp_path: Path) -> None:
    from curate.models.encoders.registry import load_encoder

    encoder = load(lambda: network(image_network()))
    (folder,) = (path for path in (cache_folder() / "exported").iterdir() if path.is_dir())
    folder.rename(tmp_path / "taken")
    taken = load_encoder(f"onnx:{tmp_path / 'taken' / 'image.onnx'}")
    prepared = [encoder.prepare(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))]
    np.testing.assert_array_equal(taken.encode(prepared), encoder.encode(prepared))


def changes_with_every_call() -> Module:
    calls: list[int] = []

    def shifted(rows: Any) -> Any:
        calls.append(1)
        return torch.roll(image(rows), len(calls), dims=1)

    image = image_network()
    module = Module(shifted)
    module.image = image
    return module


def branches(rows: Any) -> Any:
    """Python code that depends on the numbers themselves."""
    return rows if rows.sum() > 1 else 1 - rows


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (changes_with_every_call, "gives other vectors when it is exported.*cosine"),
        (lambda: Module(lambda rows: branches(rows.mean((2, 3)))), "cannot be exported"),
        (lambda: Module(lambda rows: rows[:2].reshape(2, -1)[:, :4].repeat(rows.shape[0], 1)), "not a vector for each"),
        (lambda: Module(lambda rows: rows.mean((2, 3)) - rows.mean((0, 2, 3))), "other vectors"),
        (lambda: Module(lambda rows: rows), "not a vector for each"),
        (lambda: Module(lambda rows: rows.mean((2, 3)) * float("nan")), "other vectors.*cosine nan"),
    ],
    ids=["unsteady", "not traceable", "other rows", "rows mixed", "no vector", "not numbers"],
)
def test_what_does_not_export_faithfully_is_refused(image: Callable[[], Any], message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        load(lambda: network(image()))
    assert not is_exported("toy")
    assert left_behind() == []


def test_a_text_side_that_cannot_be_exported_leaves_the_images() -> None:
    text = TextSide(Module(lambda tokens: branches(tokens.float())), TOKENS, "some-model", 10.0)
    encoder = load(lambda: network(image_network(), text))
    for again in (encoder, load(never)):
        with pytest.raises(
            UsageError, match=r"images only, no texts: the text side of toy cannot be exported"
        ) as caught:
            require_text(again)
        assert f"delete the folder {cache_folder() / 'exported' / left_behind()[0]}" in str(caught.value)
    (sidecar,) = (cache_folder() / "exported").glob("*/image.curate.json")
    assert "the text side of toy cannot be exported" in json.loads(sidecar.read_text())["about"]["text"]


def test_texts_that_are_not_to_be_had_today_may_be_tomorrow(caplog: pytest.LogCaptureFixture) -> None:
    lacking = NoTexts("its tokenizer cannot be had: no network", remedy="find a network")
    encoder = load(lambda: network(image_network(), lacking))
    assert encoder.dimensions == 6
    with pytest.raises(UsageError, match=r"images only, no texts: its tokenizer .* no network \(find a network\)"):
        require_text(encoder)
    assert "not kept" in caplog.text
    assert not is_exported("toy")
    assert left_behind() == []
    text = TextSide(Module(lambda tokens: tokens[:, :6].float()), TOKENS.repeat(2, axis=1), letters(), 10.0)
    assert require_text(load(lambda: network(image_network(), text))).encode_text(["a"]).shape == (1, 6)


def test_the_export_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    load(lambda: network(image_network()))
    load(never)
    assert caplog.text.count("exporting toy to ONNX, once for all datasets") == 1


def test_others_may_read_what_the_user_lets_them() -> None:
    before = os.umask(0o022)
    try:
        load(lambda: network(image_network()))
    finally:
        os.umask(before)
    (folder,) = (path for path in (cache_folder() / "exported").iterdir() if path.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_full_disk_is_not_the_network_s_fault() -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE[0] * SIZE[1], 500))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot be kept: File too large.*has space"):
            load(lambda: network(large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left_behind() == []


def test_an_export_that_lost_a_file_says_what_to_delete() -> None:
    text = TextSide(Module(lambda tokens: tokens[:, :6].float()), TOKENS.repeat(2, axis=1), letters(), 10.0)
    load(lambda: network(image_network(), text))
    (folder,) = (path for path in (cache_folder() / "exported").iterdir() if path.is_dir())
    for name in ("image.onnx", "image.curate.json", "text.onnx", "tokenizer.npz"):
        content = (folder / name).read_bytes()
        for left in (None, content[:-30]):
            (folder / name).unlink()
            if left is not None:
                (folder / name).write_bytes(left)
            with pytest.raises(InputError, match=f"delete the folder {folder}") as caught:
                require_text(load(never)).encode_text(["a"])
            assert str(caught.value.where).startswith(str(folder))
            (folder / name).write_bytes(content)
    assert require_text(load(never)).encode_text(["a"]).shape == (1, 6)


def test_an_error_while_building_leaves_nothing() -> None:
    def build() -> Network:
        raise UnavailableError("no weights")

    with pytest.raises(UnavailableError, match="no weights"):
        load(build)
    assert left_behind() == []


def test_a_damaged_export_says_what_to_delete() -> None:
    load(lambda: network(image_network()))
    (graph,) = (cache_folder() / "exported").glob("*/image.onnx")
    graph.write_bytes(graph.read_bytes()[:100])
    with pytest.raises(InputError, match=r"damaged.*delete the folder") as caught:
        load(never)
    assert caught.value.where == str(graph.parent)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set CURATE_HOME") as caught:
        load(never)
    assert isinstance(caught.value, CurateError)


def start(text: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(text)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_export_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    killed = start("os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert [name.startswith(".toy-") and name.endswith(".making") for name in left_behind()] == [True]
    assert not is_exported("toy")

    encoder = load(lambda: network(image_network()))
    assert encoder.dimensions == 6
    assert len(left_behind()) == 1
    assert not left_behind()[0].startswith(".")


@pytest.mark.slow
def test_processes_that_need_the_same_export_make_it_once(tmp_path: Path) -> None:
    both = [start("time.sleep(0.5)", tmp_path) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert (tmp_path / "built").read_text() == "x"
    assert len(left_behind()) == 1
