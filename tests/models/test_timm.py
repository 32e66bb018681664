"""timm's networks: the pooled features with their own normalisation, torch needed once, and weights that do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders import timm as encoder_module
from curate.models.encoders.base import require_text
from curate.models.encoders.registry import load_encoder
from curate.models.encoders.weights import weights_key

timm = pytest.importorskip("timm")

NETWORK = "test_resnet"

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "huggingface_hub"):
    sys.modules[name] = None
import numpy as np
from curate.models.encoders.registry import load_encoder
from curate.models.encoders.weights import weights_key
encoder = load_encoder(sys.argv[1])
np.save("vectors.npy", encoder.encode([encoder.prepare(image) for image in np.load("images.npy")]))
print(encoder.name)
"""


def random_network(name: str = NETWORK, seed: int = 0, **options: Any) -> Any:
    """Random weights, and running means that are not 0, so that a network left in training mode would be seen."""
    import torch

    torch.manual_seed(seed)
    model = timm.create_model(name, pretrained=False, **options)
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
    return model.eval()


def save(model: Any, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", [NETWORK, pytest.param("test_vit", marks=pytest.mark.slow)])
def test_vectors_are_the_features_before_the_head_and_need_torch_once(tmp_path: Path, name: str) -> None:
    import torch

    model = random_network(name)
    weights = save(model, tmp_path / "weights.safetensors")
    encoder = load_encoder(f"timm:{name}/{weights}")
    assert encoder.name.startswith(f"timm:{name}/{weights}@")
    assert (encoder.dimensions, encoder.input_size) == (model.num_features, 160)
    with pytest.raises(UsageError, match="images only"):
        require_text(encoder)

    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    config = timm.data.resolve_model_data_config(model)
    normalised = ((images / 255 - config["mean"]) / config["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(torch.from_numpy(normalised)), pre_logits=True).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode([encoder.prepare(image) for image in images]), expected, atol=1e-5)

    np.save(tmp_path / "images.npy", images)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WITHOUT_TORCH, encoder.name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == encoder.name
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)


def test_files_with_and_without_a_head_give_the_same(tmp_path: Path) -> None:
    import torch

    full, bare = random_network(), random_network(num_classes=0)
    bare.load_state_dict(full.state_dict(), strict=False)
    torch.save({"state_dict": full.state_dict(), "epoch": 3}, tmp_path / "full.pt")
    encoders = [
        load_encoder(f"timm:{NETWORK}/{tmp_path / 'full.pt'}"),
        load_encoder(f"timm:{NETWORK}/{save(bare, tmp_path / 'bare.safetensors')}"),
    ]
    prepared = [encoders[0].prepare(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))]
    np.testing.assert_allclose(encoders[0].encode(prepared), encoders[1].encode(prepared), atol=1e-6)
    assert encoders[0].name != encoders[1].name


def test_a_name_is_a_spec_that_notices_other_weights(tmp_path: Path) -> None:
    path = save(random_network(), tmp_path / "weights.safetensors")
    name = load_encoder(f"timm:{NETWORK}/{path}").name
    assert load_encoder(name).name == name
    save(random_network(seed=1), path)
    with pytest.raises(InputError, match="not the ones"):
        load_encoder(name)


def test_names_have_eight_digits_and_a_path_from_the_root_and_exports_the_whole_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[str, str]] = []
    monkeypatch.setattr(encoder_module, "load_exported", lambda name, key, *_: loaded.append((name, key)))
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    whole = weights_key(path)
    monkeypatch.chdir(tmp_path)
    for spec in ("resnet18/weights.pt", f"resnet18/{path}"):
        encoder_module.load(spec)
    assert loaded == [(f"timm:resnet18/{path}@{whole[:8]}", f"timm:resnet18@{whole}")] * 2


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = random_network().state_dict()
    some = next(iter(state))
    files: dict[str, dict[str, Any]] = {
        "missing": {key: value for key, value in state.items() if key != some},
        "unexpected": {**state, "extra.weight": state[some].clone()},
        "shape": {**state, some: state[some][:1].clone()},
    }
    for name, content in files.items():
        save_file(content, tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "list.pt").write_text("hello")
    for file, message in [
        ("missing.safetensors", f"1 do not fit, first '{some}'"),
        ("unexpected.safetensors", "1 do not fit, first 'extra.weight'"),
        ("shape.safetensors", "cannot be loaded"),
        ("text.safetensors", "cannot be loaded"),
        ("list.pt", "cannot be loaded"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load_encoder(f"timm:{NETWORK}/{tmp_path / file}")
        assert caught.value.where == str(tmp_path / file)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(f"timm:{NETWORK}/{tmp_path / 'weights.pt'}")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("timm", UsageError, "timm:NAME.TAG"),
        ("timm:resnet18/no_ending", UsageError, "timm:NAME//path"),
        ("timm:resnet18//nowhere/weights.safetensors", InputError, "not there"),
        ("timm:resnet18", UsageError, "which weights.*resnet18.a1_in1k"),
        ("timm:resnet18.no_such_tag", UsageError, "no weights.*resnet18.a1_in1k"),
        ("timm:no_such_network.a", UsageError, "no network named 'no_such_network.a'"),
        ("timm:resnet18.a1_in1k?precision=int3", UsageError, "no precision 'int3'"),
    ],
)
def test_specs_that_say_too_little(
    spec: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(error, match=message):
        load_encoder(spec)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "is_installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"curate-vision\[clip\]"):
        load_encoder("timm:resnet18.a1_in1k")


def test_a_tag_that_cannot_be_fetched_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.models.encoders import hub

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    with pytest.raises(UnavailableError, match="not on this disk") as caught:
        load_encoder("timm:resnet18.a1_in1k")
    assert "timm:NAME//path" in str(caught.value)
