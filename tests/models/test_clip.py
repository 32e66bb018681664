"""CLIP through open_clip: local weights with no network, and a quick, clear error where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders import clip
from curate.models.encoders.registry import load_encoder

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Random weights of a tiny CLIP, known to open_clip as 'tiny-clip'."""
    open_clip = pytest.importorskip("open_clip")
    import torch
    from safetensors.torch import save_file

    config = tmp_path / "tiny-clip.json"
    config.write_text(json.dumps(TINY))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False)
    weights = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    return weights


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
    with pytest.raises(InputError, match="not the ones"):
        load_encoder(name[:-8] + "00000000")


def test_a_folder_that_open_clip_saved(tiny: Path) -> None:
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(config))
    tiny.rename(tiny.with_name("open_clip_model.safetensors"))
    assert load_encoder(f"clip:{tiny.parent}").dimensions == 24


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


def test_a_tag_that_cannot_be_fetched_fails_at_once(tmp_path: Path) -> None:
    program = (
        "from curate.models.encoders.registry import load_encoder\nload_encoder('clip:ViT-B-32/laion2b_s34b_b79k')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_OFFLINE", None)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < 10
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
    monkeypatch.setattr(clip, "_reachable", lambda: False)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="not on this disk"):
        load_encoder("clip:ViT-B-32/laion2b_s34b_b79k")
    assert time.monotonic() - began < 5
    with pytest.raises(UsageError, match="laion2b_s34b_b79k"):
        load_encoder("clip:ViT-B-32/no_such_tag")


def test_auto_is_builtin_where_clip_s_weights_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    assert load_encoder("auto").name == "builtin-v0"
