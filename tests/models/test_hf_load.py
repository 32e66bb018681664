"""What a model of transformers is taken for, where its files come from, and everything that is refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.errors import CurateError, InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders import hub
from curate.models.predictors.base import Options
from curate.models.predictors.hf import network as network_module
from curate.models.predictors.hf.load import load
from curate.models.predictors.hf.roles import choose_part
from curate.models.predictors.hf.snapshots import Snapshot, find_snapshot

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import noise, open_model, save  # noqa: E402

REPOSITORY = "someone/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFLINE = """
import sys
from curate.errors import UnavailableError
from curate.models.predictors.base import Options
from curate.models.predictors.hf.load import load
try:
    load("someone/tiny", Options())
except UnavailableError as error:
    print(error)
print([name for name in ("torch", "transformers", "huggingface_hub") if name in sys.modules])
"""


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file; None takes one out."""
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    return tmp_path / "hf" / "hub"


def put(cache: Path, folder: Path, revision: str = "main") -> Path:
    """Put a folder into the cache as the hub's client does."""
    root = cache / f"models--{REPOSITORY.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / revision).write_text(COMMIT)
    return Path(shutil.copytree(folder, root / "snapshots" / COMMIT))


def test_a_folder_is_named_with_a_digest_of_all_that_the_numbers_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save("detr", tmp_path / "model")
    name = open_model(folder).name
    source, _, digest = name.rpartition("@")
    assert source == f"hf:{folder}"
    assert len(digest) == 8
    assert open_model(folder).name == name
    edit(folder / "preprocessor_config.json", size={"shortest_edge": 80, "longest_edge": 100})
    changed = open_model(folder).name
    assert changed != name
    (folder / "README.md").write_text("about it")
    monkeypatch.chdir(tmp_path)
    assert open_model(Path("model")).name == changed  # and is the same from everywhere


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    whole = save("detr", tmp_path / "whole")
    model = transformers.AutoModelForObjectDetection.from_pretrained(whole)
    parts = tmp_path / "parts"
    model.save_pretrained(parts, max_shard_size="20KB")
    shutil.copy(whole / "preprocessor_config.json", parts)
    shards = sorted(parts.glob("model-*.safetensors"))
    assert len(shards) > 1
    one, other = open_model(whole), open_model(parts)
    prepared = one.prepare(noise()[0])
    np.testing.assert_array_equal(
        vars(one.predict([prepared])[0])["boxes"], vars(other.predict([prepared])[0])["boxes"]
    )
    shards[0].unlink()
    with pytest.raises(InputError, match=f"lacks {shards[0].name}"):
        open_model(parts)


def test_a_repository_in_the_cache_needs_no_network(tmp_path: Path, cache: Path) -> None:
    put(cache, save("detr", tmp_path / "model"))
    predictor = load(REPOSITORY, Options())
    assert predictor.name == f"hf:{REPOSITORY}@{COMMIT}"
    assert load(f"{REPOSITORY}@{COMMIT}", Options()).name == predictor.name
    assert load(f"{REPOSITORY}?task=detect", Options()).name == f"{predictor.name}?task=detect"


@pytest.mark.parametrize(
    ("missing", "spec", "said"),
    [
        ("", REPOSITORY, "'someone/tiny' are not on this disk"),
        ("model.safetensors", REPOSITORY, r"'someone/tiny \(model.safetensors\)' are not on this disk"),
        ("other", f"{REPOSITORY}@v2", "'someone/tiny@v2' are not on this disk"),
    ],
)
def test_what_is_not_in_the_cache_is_told_with_the_way_to_bring_it(
    tmp_path: Path, cache: Path, missing: str, spec: str, said: str
) -> None:
    if missing:
        folder = put(cache, save("detr", tmp_path / "model"))
        (folder / missing).unlink(missing_ok=True)
    with pytest.raises(UnavailableError, match=said) as caught:
        load(spec, Options())
    pinned = " --revision v2" if "@" in spec else ""
    assert f"hf download {REPOSITORY}{pinned} --local-dir FOLDER" in str(caught.value.remedy)
    assert "hf:FOLDER" in str(caught.value.remedy)


def test_offline_it_says_so_at_once(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=True)
    message, imported = ran.stdout.strip().rsplit("\n", 1)
    assert "HF_HUB_OFFLINE forbids fetching them" in message
    assert imported == "[]"  # without the client, which would try again and again, and before anything that takes long
    assert ran.stderr == ""


def test_only_numbers_and_settings_are_fetched(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    model = save("detr", tmp_path / "model")
    asked = {}

    def download(repository: str, *, revision: str, cache_dir: Path, allow_patterns: list[str]) -> str:
        assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
        asked[repository] = (revision, allow_patterns)
        return str(put(cache_dir, model, revision))

    monkeypatch.setattr(hub, "_reachable", lambda: True)
    monkeypatch.setattr(hub, "_USER_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load(f"{REPOSITORY}@v1", Options()).name == f"hf:{REPOSITORY}@{COMMIT}"
    revision, patterns = asked.pop(REPOSITORY)
    assert revision == "v1"
    assert not [pattern for pattern in patterns if not pattern.endswith((".json", ".safetensors", ".txt", ".model"))]
    load(f"{REPOSITORY}@v1", Options())
    assert not asked  # now it is in the cache


def test_a_download_that_fails_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: object, **__: object) -> str:
        raise OSError("401 Client Error\nmany more lines")

    monkeypatch.setattr(hub, "_reachable", lambda: True)
    monkeypatch.setattr(hub, "_USER_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UnavailableError, match="'someone/tiny' could not be fetched: 401 Client Error") as caught:
        load(REPOSITORY, Options())
    assert "many more lines" not in str(caught.value)
    assert "no folder of that name" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("/nowhere/model", InputError, "the folder is not there"),
        ("./nowhere", InputError, "the folder is not there"),
        ("~nobody-of-that-name/model", InputError, "leads nowhere"),
        ("not a name", UsageError, "neither a folder nor a repository"),
        ("a/b/c", UsageError, "neither a folder nor a repository"),
        ("", InputError, "lacks config.json"),
    ],
)
def test_specs_that_name_no_model(
    spec: str, error: type[CurateError], message: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        find_snapshot(spec)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def without_a_head(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("class_labels_classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def of_another_shape(folder: Path) -> None:
    edit(folder / "config.json", num_queries=8)


def no_image_settings(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def image_settings_of_a_classifier(folder: Path) -> None:
    edit(folder / "preprocessor_config.json", image_processor_type="ViTImageProcessor")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def config_of_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def text_model(folder: Path) -> None:
    edit(folder / "config.json", model_type="bert", architectures=["BertForMaskedLM"])


def unknown_type(folder: Path) -> None:
    edit(folder / "config.json", model_type="detr9000", architectures=None)


def code_of_its_own(folder: Path) -> None:
    code = {"AutoConfig": "code.Config", "AutoModelForObjectDetection": "code.Model"}
    edit(folder / "config.json", model_type="mine", architectures=["MyDetector"], auto_map=code)
    (folder / "code.py").write_text("raise SystemExit('it was run')")


def no_names(folder: Path) -> None:
    edit(folder / "config.json", id2label=None, label2id=None, num_labels=2)


def made_up_names(folder: Path) -> None:
    edit(folder / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"})


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        (no_weights, "lacks model.safetensors", "copy what is missing"),
        (only_a_pickle, "lacks model.safetensors", "can run any code"),
        (cut_weights, "cannot be loaded", "whole"),
        (without_a_head, "2 are missing or of another shape, first 'class_labels_classifier.bias'", "config.json"),
        (of_another_shape, "cannot be loaded|of another shape", "whole|config.json"),
        (no_image_settings, "cannot be loaded", "whole"),
        (image_settings_of_a_classifier, r"\(ViTImageProcessor\) is not one for such a model", "came from"),
        (broken_config, "config.json: the file cannot be read", "fetch it again"),
        (config_of_a_list, "not a JSON object", "fetch it again"),
        (text_model, "a BertForMaskedLM finds nothing on images", "choose a detector"),
        (unknown_type, "a detr9000 finds nothing", "choose a detector"),
        (code_of_its_own, r"\(MyDetector\) brings code of its own", "ONNX"),
        (no_names, "does not say what its 2 classes are called", "id2label"),
        (made_up_names, "does not say what its 2 classes are called", "id2label"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, change: Callable[[Path], None], message: str, remedy: str) -> None:
    import re

    folder = save("detr", tmp_path / "model")
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        open_model(folder)
    assert re.search(remedy, str(caught.value.remedy))
    assert str(folder) in str(caught.value.where)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = network_module.importlib.util.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(
        network_module.importlib.util,  # type: ignore[attr-defined]
        "find_spec",
        lambda name: None if name == "transformers" else find(name),
    )
    with pytest.raises(MissingExtra, match=r"transformers is not installed.*curate-vision\[hf\]"):
        load(str(tmp_path), Options())


def test_a_package_that_one_model_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save("detr", tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise ImportError("DetrModel requires the timm library")

    monkeypatch.setattr(transformers.AutoModelForObjectDetection, "from_pretrained", fail)
    with pytest.raises(UnavailableError, match="not installed: DetrModel requires the timm library"):
        open_model(folder)


@pytest.mark.parametrize(
    ("model_type", "architectures", "asked", "role", "task"),
    [
        ("detr", ["DetrForObjectDetection"], None, "detect", "detect"),
        ("detr", ["DetrForSegmentation"], None, "universal", "instances"),
        ("detr", ["DetrForSegmentation"], "segment", "universal", "segment"),
        ("detr", None, "detect", "detect", "detect"),
        ("d_fine", ["DFineForObjectDetection"], None, "detect", "detect"),
        ("rf_detr", ["RfDetrForInstanceSegmentation"], None, "universal", "instances"),
        ("maskformer", ["MaskFormerForInstanceSegmentation"], None, "universal", "instances"),
        ("dpt", ["DPTForDepthEstimation"], None, "depth", "depth"),
        ("dpt", ["DPTForSemanticSegmentation"], None, "segment", "segment"),
        ("deit", ["DeiTForImageClassificationWithTeacher"], None, "classify", "classify"),
        ("grounding-dino", ["GroundingDinoForObjectDetection"], None, "prompted", "detect"),
        ("owlv2", None, None, "prompted", "detect"),
        ("sam2_video", ["Sam2VideoModel"], None, "box_masks", None),
        ("segformer", None, "classify", "classify", "classify"),
    ],
)
def test_what_a_model_is_for(
    tmp_path: Path, model_type: str, architectures: list[str] | None, asked: str | None, role: str, task: str | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": architectures}))
    part = choose_part(Snapshot(tmp_path, "model", "0"), asked)
    assert (part.role, part.task) == (role, task)
    assert hasattr(transformers, part.auto)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("find", "there is no task 'find'"),
        ("", "there is no task ''"),
        ("depth", "cannot be asked to depth: it is a DetrForObjectDetection"),
    ],
)
def test_tasks_that_a_model_cannot_do(tmp_path: Path, asked: str, message: str) -> None:
    folder = save("detr", tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        load(f"{folder}?task={asked}", Options())
    assert "detect" in str(caught.value.remedy)


def test_a_model_without_the_head_for_what_is_asked_is_refused(tmp_path: Path) -> None:
    folder = save("segformer", tmp_path)
    edit(folder / "config.json", architectures=None)
    with pytest.raises(InputError, match="are missing or of another shape"):
        open_model(folder, "classify")


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save("oneformer", tmp_path)
    capfd.readouterr()
    predictor = open_model(folder)
    predictor.predict([predictor.prepare(noise()[0])])
    assert capfd.readouterr() == ("", "")


def test_detectors_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = save("detr", tmp_path)
    edit(
        folder / "preprocessor_config.json",
        image_processor_type="PPDocLayoutV2ImageProcessor",
        size={"height": 64, "width": 64},
    )
    with pytest.raises(UsageError, match="detectors of type 'detr' are not supported"):
        open_model(folder)
