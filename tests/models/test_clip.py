"""CLIP: open_clip's own vectors of images and texts, torch needed once, and a quick, clear error where there are no weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.dataset.home import cache_folder
from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders import clip, hub
from curate.models.encoders.base import TextEncoder, require_text
from curate.models.encoders.exported import Network, load_exported
from curate.models.encoders.registry import load_encoder

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}
# The same with all of CLIP's words.
TALKING = TINY | {"text_cfg": {**TINY["text_cfg"], "vocab_size": 49408, "context_length": 16}}  # type: ignore[dict-item]
COLORS = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 60, 220), "white": (240, 240, 240)}

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "open_clip", "timm", "onnx", "onnxscript", "ftfy", "regex", "huggingface_hub"):
    sys.modules[name] = None
import numpy as np
from curate.models.encoders.registry import load_encoder
encoder = load_encoder(sys.argv[1])
images = np.load("images.npy")
np.save("vectors.npy", encoder.encode([encoder.prepare(image) for image in images]))
np.save("texts.npy", encoder.encode_text(["a red part", "Don't"]))
print(encoder.name)
"""

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is in the extra 'openvino'")


def new_model(config: dict[str, Any], folder: Path, name: str, seed: int = 0) -> Any:
    """A model with random weights, which open_clip then knows by name."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    torch.manual_seed(seed)
    return open_clip.create_model(name, load_weights=False)


def save(model: Any, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Random weights of a tiny CLIP, known to open_clip as 'tiny-clip'."""
    return save(new_model(TINY, tmp_path, "tiny-clip"), tmp_path / "weights.safetensors")


def flat(color: tuple[int, int, int], seed: int) -> np.ndarray:
    """A noisy image of one colour."""
    noise = np.random.default_rng(seed).normal(0, 20, (32, 32, 3))
    return (np.array(color) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny CLIP that was taught the names of four colours."""
    folder = tmp_path_factory.mktemp("taught")
    model = new_model(TALKING, folder, "taught-clip")
    import open_clip
    import torch

    tokens = open_clip.get_tokenizer("taught-clip")([f"a {color} part" for color in COLORS])
    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(50):
        pixels = np.stack([flat(color, step) for color in COLORS.values()])
        images = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
        cosines = model.encode_image(images, normalize=True) @ model.encode_text(tokens, normalize=True).T
        loss = torch.nn.functional.cross_entropy(10 * cosines, torch.arange(len(COLORS)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save(model, folder / "weights.safetensors")


@pytest.fixture(scope="module")
def taught_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def talking(taught: Path, taught_home: Path, monkeypatch: pytest.MonkeyPatch) -> TextEncoder:
    """The encoder of these weights, exported once for all tests."""
    monkeypatch.setenv("CURATE_HOME", str(taught_home))
    return require_text(load_encoder(f"clip:taught-clip/{taught}"))


def test_local_weights_give_the_model_s_own_unit_vectors(tiny: Path) -> None:
    import open_clip
    import torch

    encoder = load_encoder(f"clip:tiny-clip/{tiny}")
    assert encoder.name.startswith(f"clip:tiny-clip/{tiny}@")
    assert (encoder.dimensions, encoder.input_size) == (24, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    vectors = encoder.encode([encoder.prepare(image) for image in pixels])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    model = open_clip.create_model("tiny-clip", pretrained=str(tiny)).eval()
    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    images = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        expected = model.encode_image(images, normalize=True).numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_name_is_a_spec_that_notices_other_weights(tiny: Path) -> None:
    name = load_encoder(f"clip:tiny-clip/{tiny}").name
    assert load_encoder(name).name == name
    with pytest.raises(InputError, match="not the ones") as caught:
        load_encoder(name[:-8] + "00000000")
    assert f"embed again: curate embed --encoder '{name[:-9]}'" in str(caught.value)


def test_a_folder_that_open_clip_saved(tiny: Path) -> None:
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(config))
    tiny.rename(tiny.with_name("open_clip_model.safetensors"))
    encoder = load_encoder(f"clip:{tiny.parent}")
    assert encoder.dimensions == 24
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(config).replace("0.5", "0.4"))
    assert load_encoder(f"clip:{tiny.parent}").name != encoder.name  # normalised differently


def test_whatever_is_read_of_a_folder_makes_its_version(tiny: Path) -> None:
    folder = tiny.parent
    (folder / "open_clip_config.json").write_text("{}")
    tiny.rename(folder / "open_clip_model.safetensors")
    (folder / "aaa.pt").write_bytes(b"not what open_clip loads")
    versions = [clip._parse(str(folder)).version]
    save(new_model(TINY, folder, "tiny-clip", seed=1), folder / "open_clip_model.safetensors")
    versions.append(clip._parse(str(folder)).version)
    (folder / "tokenizer.json").write_text("{}")
    versions.append(clip._parse(str(folder)).version)
    (folder / "tokenizer.json").write_text('{"other": 1}')
    versions.append(clip._parse(str(folder)).version)
    (folder / "aaa.pt").rename(folder / "aab.pt")
    versions.append(clip._parse(str(folder)).version)
    assert len(set(versions)) == 5
    (folder / "readme.md").write_text("hello")
    assert clip._parse(str(folder)).version == versions[-1]


@pytest.mark.slow
def test_a_tokenizer_that_is_not_there_is_named_and_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    wanted = TALKING | {"text_cfg": {**TALKING["text_cfg"], "hf_tokenizer_name": "no-such/tokenizer"}}  # type: ignore[dict-item]
    save(new_model(TALKING, tmp_path, "lost-words"), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "lost-words.json").unlink()
    config = {"model_cfg": wanted, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    encoder = load_encoder(f"clip:{tmp_path}")
    assert encoder.dimensions == 24
    with pytest.raises(UsageError, match=r"its tokenizer cannot be had: .+ \(put what it lacks on this disk"):
        require_text(encoder)
    assert not list((cache_folder() / "exported").glob("*/image.onnx"))


def test_a_name_reads_the_same_from_every_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    (tiny.parent / "open_clip_config.json").write_text("{}")
    (tiny.parent / "sub").mkdir()
    for spec, expected in (("tiny-clip/weights.safetensors", f"tiny-clip/{tiny}"), (".", str(tiny.parent))):
        assert clip._parse(spec).spec == expected
        assert clip._parse(expected) == clip._parse(spec)
    monkeypatch.chdir(tiny.parent / "sub")
    assert clip._parse("local-dir:..").model == f"local-dir:{tiny.parent}"


def test_texts_get_the_model_s_own_unit_vectors(talking: TextEncoder, taught: Path) -> None:
    import open_clip
    import torch

    model = open_clip.create_model("taught-clip", pretrained=str(taught)).eval()
    texts = ["a red part", "Scratched BOLT, 3 mm; isn't it?", "", "one two three " * 20]
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("taught-clip")(texts), normalize=True).numpy()
    vectors = talking.encode_text(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(talking.encode_text(texts[1:2]), expected[1:2], atol=1e-5)
    assert talking.encode_text([]).shape == (0, talking.dimensions)
    assert talking.logit_scale == pytest.approx(float(model.logit_scale.exp().detach()))


def test_a_text_is_nearest_to_the_images_that_it_describes(talking: TextEncoder) -> None:
    images = [flat(color, 1000 + seed) for color in COLORS.values() for seed in range(5)]
    vectors = talking.encode([talking.prepare(image) for image in images])
    cosines = talking.encode_text([f"a {color} part" for color in COLORS]) @ vectors.T
    nearest = np.sort(np.argsort(-cosines, axis=1)[:, :5], axis=1)
    assert nearest.tolist() == np.arange(20).reshape(4, 5).tolist()


def test_the_second_run_needs_no_torch(talking: TextEncoder, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WITHOUT_TORCH, talking.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == talking.name
    here = talking.encode([talking.prepare(image) for image in images])
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), here, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "texts.npy"), talking.encode_text(["a red part", "Don't"]), atol=1e-6)


def test_a_file_that_was_moved_is_not_exported_again(
    talking: TextEncoder, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(taught.read_bytes())
    monkeypatch.setattr(clip, "is_installed", lambda: False)
    assert load_encoder(f"clip:taught-clip/{moved}").name == f"clip:taught-clip/{moved}@{talking.name[-8:]}"


def test_two_versions_of_a_file_are_two_encoders(tiny: Path) -> None:
    first = load_encoder(f"clip:tiny-clip/{tiny}")
    save(new_model(TINY, tiny.parent, "tiny-clip", seed=1), tiny)
    second = load_encoder(f"clip:tiny-clip/{tiny}")
    assert first.name != second.name
    assert len(list((cache_folder() / "exported").glob("*/image.onnx"))) == 2
    prepared = [first.prepare(flat((10, 200, 90), 0))]
    assert float((first.encode(prepared) @ second.encode(prepared).T).item()) < 0.9


@pytest.mark.slow
def test_a_tokenizer_that_is_not_clip_s_own_is_open_clip_s(tmp_path: Path) -> None:
    import open_clip
    import torch

    config = TALKING | {"text_cfg": {**TALKING["text_cfg"], "tokenizer_kwargs": {"clean": "canonicalize"}}}  # type: ignore[dict-item]
    weights = save(new_model(config, tmp_path, "canonical-clip"), tmp_path / "weights.safetensors")
    encoder = require_text(load_encoder(f"clip:canonical-clip/{weights}"))
    model = open_clip.create_model("canonical-clip", pretrained=str(weights)).eval()
    texts = ["Scratched, bent; and broken!", "scratched bent and broken"]
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("canonical-clip")(texts), normalize=True).numpy()
    vectors = encoder.encode_text(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)  # punctuation is left out


def test_a_model_whose_words_are_unknown_knows_images_only(tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"images only, no texts: the text side of .* cannot be exported"):
        require_text(load_encoder(f"clip:tiny-clip/{tiny}"))


@needs_openvino
def test_speed_is_by_choice_and_in_the_name(talking: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = [talking.prepare(flat(color, 0)) for color in COLORS.values()]
    spec, _, digest = talking.name.rpartition("@")
    monkeypatch.setenv("CURATE_RUNTIME", "openvino")
    same = load_encoder(talking.name)
    assert same.name == talking.name
    np.testing.assert_allclose(same.encode(prepared), talking.encode(prepared), atol=1e-5)
    monkeypatch.delenv("CURATE_RUNTIME")
    try:
        fast = load_encoder(f"{spec}?precision=bf16")
    except UsageError as error:
        pytest.skip(str(error))
    assert fast.name == f"{spec}?precision=bf16@{digest}"
    assert load_encoder(fast.name).name == fast.name
    cosines = (fast.encode(prepared) * talking.encode(prepared)).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-7


def test_weights_of_another_model_are_named(tiny: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load_encoder(f"clip:ViT-B-32/{tiny}")
    assert caught.value.where == str(tiny)


def test_a_pickle_is_not_run(tiny: Path, tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(f"clip:tiny-clip/{path}")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("clip:ViT-B-32", UsageError),
        ("clip:ViT-B-32//nowhere/weights.safetensors", InputError),
        ("clip:local-dir:/nowhere", InputError),
    ],
)
def test_specs_that_say_too_little(spec: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="clip:MODEL//path"):
        load_encoder(spec)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "is_installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"curate-vision\[clip\]"):
        load_encoder("clip")


@pytest.mark.slow
def test_a_tag_that_cannot_be_fetched_is_told_without_the_hub_s_client(tmp_path: Path) -> None:
    """Which would try again and again for 46 s."""
    program = "\n".join(
        [
            "import sys",
            "sys.modules['huggingface_hub'] = None",
            "from curate.models.encoders.registry import load_encoder",
            "load_encoder('clip:ViT-B-32/laion2b_s34b_b79k')",
        ]
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "UnavailableError" in done.stderr
    assert "127.0.0.1 cannot be reached" in done.stderr
    assert "--encoder builtin" in done.stderr
    assert str(tmp_path / "hub") in done.stderr


def test_other_weights_in_the_cache_do_not_delay_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open_clip")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "c"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    asked: list[bool] = []
    allow = hub.hub

    def noting(*, online: bool) -> AbstractContextManager[None]:
        asked.append(online)
        return allow(online=online)

    monkeypatch.setattr(hub, "hub", noting)
    with pytest.raises(UnavailableError, match="not on this disk"):
        load_encoder("clip:ViT-B-32/laion2b_s34b_b79k")
    assert asked == [False]
    with pytest.raises(UsageError, match="laion2b_s34b_b79k"):
        load_encoder("clip:ViT-B-32/no_such_tag")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clip:ViT-B-99/x", "no model named 'ViT-B-99'.*ViT-B-"),
        ("clip:vit-b-32/laion2b_s34b_b79k", "no model named 'vit-b-32'.*perhaps ViT-B-32"),
        ("clip:ViT-B-32/nope", "no weights 'nope' of ViT-B-32.*laion2b_s34b_b79k"),
    ],
)
def test_a_misspelt_model_needs_no_network_to_be_told(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    with pytest.raises(UsageError, match=message):
        load_encoder(spec)


def test_auto_is_builtin_where_clip_s_weights_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert load_encoder("auto").name == "builtin-v1"


def test_auto_is_clip_where_it_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    image = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8), torch.nn.Flatten())
    network = Network(image, (8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), text=None)
    load_exported("clip", f"clip:{clip.DEFAULT_MODEL}", lambda: network, "f32")
    monkeypatch.setattr(clip, "is_installed", lambda: False)
    assert load_encoder("auto").name == f"clip:{clip.DEFAULT_MODEL}"
