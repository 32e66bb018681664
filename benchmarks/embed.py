"""Embedding from files to the store: how much more it takes than the model alone, and how much memory.

Pictures of 640 x 480 and 4000 x 3000 pixels are generated: noise with the spectrum of photographs, as JPEGs of quality 90 (150
KB and 5 MB). Each method embeds them in a process of its own on the same cores, with the same encoder: ViT-B-32 with random
weights as a local CLIP checkpoint (extra `clip`), and the built-in. The torch loop and FiftyOne run in the interpreter that the
environment variable CURATE_PEERS names, which needs curate's own dependencies, torch and fiftyone; by default in this one.

Seconds of the processor count all threads and child processes, but not FiftyOne's database. On a machine that does other work
they are to be read rather than pictures a second, which are by the clock.

Memory is the largest resident set of a process that embeds small pictures, all of different bytes, with a network that does
next to nothing.

    python -m benchmarks.embed [--data FOLDER] [--images 96] [--encoders vit builtin] [--cores 1 2]
                               [--memory 1000 10000 100000] [--only METHOD ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.report import Report, markdown, memory_table, milliseconds, options, real_set, run

OURS: Final = ("model alone", "decoding alone", "commit of one", "curate")
STORES: Final = ("commit of one", "curate")
PEERS: Final = ("torch loop", "torch loop, 2 workers", "FiftyOne")
VIT: Final = "vit"
ENCODERS: Final = (VIT, "builtin")
SIZES: Final = {"640 x 480": (640, 480), "4000 x 3000": (4000, 3000)}
# Of the large pictures fewer, as each takes longer.
LARGE_SHARE: Final = 4
QUALITY: Final = 90
SMALL_SIDE: Final = 64
PATTERNS: Final = 16
FOLDER_FILES: Final = 1000


def main() -> None:
    """Measure every method on every kind of picture, then memory."""
    parser = options(__doc__, data=True)
    parser.add_argument("--images", type=int, default=96, help="pictures of 640 x 480; a quarter of it of 4000 x 3000")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), metavar="SPEC", help="'vit', or encoder specs")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="numbers of pictures")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS], help="run these only")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """One table with what each method takes for a picture, and one with memory."""
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = measure_time(arguments, root, notes)
        memory = measure_memory(arguments.memory, root / "memory", notes)
    tables = [time_table(rows, [name for name in arguments.only if any(name in row for row in rows)])] if rows else []
    tables += [memory_table(memory)] if memory else []
    settings = {"images": arguments.images, "quality": QUALITY, "cores": arguments.cores}
    return Report(settings, [*rows, *memory], "\n\n".join(tables), notes)


def measure_time(arguments: argparse.Namespace, root: Path, notes: list[str]) -> list[dict[str, Any]]:
    """What each method takes, one object for each encoder, kind of picture and number of cores."""
    if arguments.images < 2:  # one is embedded before the others
        return []
    pictures = make_pictures(root, arguments.images)
    if (bccd := real_set(arguments.data, "bccd", notes)) is not None:
        pictures["BCCD, 640 x 480"] = copy_some(bccd / "JPEGImages", root / "bccd", arguments.images)
    missing: set[str] = set()
    rows = []
    for name in arguments.encoders:
        if (spec := make_vit(root, notes) if name == VIT else name) is None:
            continue
        for kind, folder in pictures.items():
            home = root / f"home-{folder.name}"
            for cores in arguments.cores:
                row: dict[str, Any] = {"encoder": name, "pictures": kind, "cores": cores}
                for method in arguments.only:
                    if method not in missing:
                        request = {"method": method, "encoder": spec, "folder": str(folder), "cores": cores}
                        found, problem = call(request, home, root / "exported")
                        if problem:
                            missing.add(method)
                            notes.append(f"'{method}' is left out: {problem}")
                        else:
                            row[method] = found
                print(row, file=sys.stderr)
                rows.append(row)
    return rows


def measure_memory(counts: Sequence[int], root: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Peak memory of `curate embed` for growing numbers of pictures."""
    if counts and find_spec("onnx") is None:
        notes.append("memory is left out: onnx is not installed, which makes the small network")
        return []
    found = []
    for count in counts:
        folder = root / str(count)
        make_small(folder, count)
        request = {"method": "curate", "encoder": f"onnx:{make_network(root)}", "folder": str(folder), "cores": 2}
        result, _ = call(request, root / "home", root / "exported")
        shutil.rmtree(root)
        found.append({"encoder": "small", "pictures": count, **result})
        print(found[-1], file=sys.stderr)
    return found


def call(request: Mapping[str, Any], home: Path, exported: Path) -> tuple[dict[str, Any], str | None]:
    """What one method takes in a process of its own; or why a peer cannot run.

    Raises:
        RuntimeError: One of curate's own methods failed.
    """
    environment = os.environ | {
        "CURATE_HOME": str(home),
        "FIFTYONE_DATABASE_DIR": str(home / "fiftyone"),
        "FIFTYONE_DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(request["cores"]),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    python = os.environ.get("CURATE_PEERS", sys.executable) if request["method"] in PEERS else sys.executable
    if request["method"] not in PEERS:
        shutil.rmtree(home / "datasets", ignore_errors=True)
    (home / "cache").mkdir(parents=True, exist_ok=True)
    exported.mkdir(exist_ok=True)
    if not (home / "cache" / "exported").exists():  # a model is exported once for all
        (home / "cache" / "exported").symlink_to(exported)
    stores = request["method"] in STORES
    steps = [{**request, "method": "import"}, request] if stores else [request]
    for step in steps:
        command = [python, "-m", "benchmarks.embed_methods", json.dumps(step)]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        if process.returncode:
            if request["method"] not in PEERS:
                raise RuntimeError(f"'{request['method']}' failed: {process.stderr}")
            return {}, process.stderr.strip().rpartition("\n")[2]
    return json.loads(process.stdout.strip().rpartition("\n")[2]), None


def make_pictures(root: Path, images: int) -> dict[str, Path]:
    """Folders of JPEGs, all different, by size."""
    rng = np.random.default_rng(0)
    scene = natural_noise(*SIZES["4000 x 3000"], rng)
    folders = {}
    for kind, (width, height) in SIZES.items():
        folders[kind] = root / str(width)
        folders[kind].mkdir()
        for number in range(images if width < 4000 else max(2, images // LARGE_SHARE)):
            # The noise has no borders: whatever it is shifted by, it stays whole.
            shifted = np.roll(scene, rng.integers(0, 3000, 2).tolist(), axis=(0, 1))
            file = folders[kind] / f"{number:06d}.jpg"
            Image.fromarray(shifted[:height, :width]).save(file, quality=QUALITY)
    return folders


def natural_noise(width: int, height: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Noise whose amplitudes fall with frequency as those of photographs do (Field, JOSA A 1987); colours vary less."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / max(width, height)) ** 1.15

    def noise() -> npt.NDArray[np.float64]:
        values = np.fft.irfft2(amplitude * np.fft.rfft2(rng.standard_normal((height, width))), (height, width))
        return np.asarray(values / values.std())

    light = 120 + 45 * noise()
    return np.stack([(light + 12 * noise()).clip(0, 255).astype(np.uint8) for _ in range(3)], axis=2)


def copy_some(source: Path, target: Path, images: int) -> Path:
    """Copies of the first pictures of a folder."""
    target.mkdir()
    for path in sorted(source.glob("*.jpg"))[:images]:
        shutil.copyfile(path, target / path.name)
    return target


def make_small(folder: Path, count: int) -> None:
    """Small JPEGs; a number behind the end of each makes its bytes differ, which no decoder looks at."""
    rng = np.random.default_rng(0)
    patterns = []
    for _ in range(PATTERNS):
        grain = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        grain.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BICUBIC).save(file := BytesIO(), "JPEG")
        patterns.append(file.getvalue())
    for number in range(count):
        place = folder / f"{number // FOLDER_FILES:05d}"
        if number % FOLDER_FILES == 0:
            place.mkdir(parents=True)
        (place / f"{number:08d}.jpg").write_bytes(patterns[number % PATTERNS] + number.to_bytes(8, "big"))


def make_vit(root: Path, notes: list[str]) -> str | None:
    """The spec of a CLIP ViT-B-32 with random weights, which takes as long as one that was trained."""
    if find_spec("open_clip") is None:
        notes.append("ViT-B-32 is left out: open_clip_torch is not installed (pip install 'curate-vision[clip]')")
        return None
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    path = root / "vit.safetensors"
    save_file({name: values.contiguous() for name, values in model.state_dict().items()}, path)
    return f"clip:ViT-B-32/{path}"


def make_network(folder: Path) -> Path:
    """A network that projects 32 x 32 pixels on 512 directions."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((3 * 32 * 32, 512)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["vector"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 512])
    graph = helper.make_graph(nodes, "projection", [image], [vector], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "projection.onnx"
    onnx.save(model, path)
    return path


def time_table(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str:
    """Milliseconds of the processor for a picture, and pictures a second.

    Of curate also what is left for a picture beyond decoding, model and the commit, which takes the same for any number.
    """
    lines = []
    for row in rows:
        cells = [f"{milliseconds(row[name]):.2f} / {_rate(row[name]):.1f}" if name in row else "-" for name in methods]
        over, slower = "-", "-"
        if all(name in row for name in OURS):
            model, decoding, commit, ours = (milliseconds(row[name]) for name in OURS)
            each = ours - max(commit - model - decoding, 0) / row["curate"]["images"]
            over = f"{each - model - decoding:.2f}"
            slower = f"{each / model:.2f}"
        lines.append([row["encoder"], row["pictures"], row["cores"], *cells, over, slower])
    last = ["curate beyond model, decoding and commit, CPU ms", "curate without commit, of the model alone"]
    return markdown(["encoder", "pictures", "cores", *(f"{name}: CPU ms / a second" for name in methods), *last], lines)


def _rate(measured: Mapping[str, float]) -> float:
    return measured["images"] / measured["wall_s"]


if __name__ == "__main__":
    main()
