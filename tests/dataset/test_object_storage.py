"""Datasets whose tables are in an object store: a real S3 server on this machine, the commands as a user types them."""

from __future__ import annotations

import json
import logging
import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.dataset import begin, dataset_names, open_dataset, read_history
from curate.dataset.fragments import FragmentTarget, write_fragment
from curate.dataset.home import dataset_path, datasets_folder
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES, embeddings_schema
from curate.errors import UnavailableError, UsageError
from tests.commands.typed import curate, lines
from tests.pictures import make_stripes

pytest.importorskip("moto.server", reason="moto is not installed: pip install 'curate-vision[dev]'")

SECRET = "wJalrXUtnFEMI-a-secret-of-the-store"
_numbers = count()


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server, and what is in it."""

    name: str
    client: Any

    @property
    def address(self) -> str:
        return f"s3://{self.name}/curate"

    def objects(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket, in which datasets that are made from now on have their tables."""
    import boto3

    settings = {
        "AWS_ACCESS_KEY_ID": "a-key-of-the-store",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = Bucket(f"bucket-{next(_numbers)}", boto3.client("s3"))
    made.client.create_bucket(Bucket=made.name)
    monkeypatch.setenv("CURATE_TABLES", made.address)
    return made


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """An ImageFolder of stripes, two of them in the wrong class."""
    return make_stripes(tmp_path / "stripes")


def images(*locations: str) -> pa.Table:
    rows = [
        {"image_id": each, "location": location, "split": "train"}
        for each, location in zip(image_ids(locations).to_pylist(), locations, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def write(name: str, *locations: str) -> None:
    with begin(name, command="write", create=True) as transaction:
        transaction.append("images", [images(*locations)])


def stored_files(name: str) -> list[str]:
    return sorted(str(path.relative_to(dataset_path(name))) for path in dataset_path(name).rglob("*") if path.is_file())


def dataset_files() -> list[str]:
    """What is in the folder of all datasets but for locks, which stay."""
    return [path.name for path in datasets_folder().iterdir() if path.suffix != ".lock"]


@pytest.mark.slow
def test_every_command_works_on_tables_in_a_bucket(
    bucket: Bucket, stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curate("import", stripes, "-d", "stripes")
    monkeypatch.delenv("CURATE_TABLES")  # the dataset remembers
    (info,) = lines(curate("info", "stripes", "--json"))
    assert info["tables_at"].startswith(f"{bucket.address}/stripes-")
    assert info["tables_at"] in curate("info", "stripes").stdout
    assert (info["images"], info["layers"]) == (60, {"ground_truth": {"label": 60}})
    assert not (dataset_path("stripes") / "tables").exists()

    curate("embed", "-d", "stripes", "--encoder", "builtin")
    curate("mistakes", "-d", "stripes")
    found = lines(curate("findings", "-d", "stripes", "--json"))
    assert found
    curate("import", stripes, "-d", "here")
    curate("mistakes", "-d", "here", "--encoder", "builtin")
    assert found == [each | {"commit": 3} for each in lines(curate("findings", "-d", "here", "--json"))]
    curate("rm", "here", "--yes")
    curate("accept", "-d", "stripes", found[0]["id"])
    (confirmed,) = lines(curate("findings", "-d", "stripes", "--status", "confirmed", "--json"))
    assert confirmed == found[0] | {"status": "confirmed"}
    assert lines(curate("ls", "--json"))[0]["images"] == 60

    Image.new("RGB", (32, 32)).save(stripes / "vertical" / "99.png")
    (stripes / "vertical" / "00.png").unlink()
    curate("import", stripes, "-d", "stripes")
    (changes,) = lines(curate("diff", "-d", "stripes", "--json"))
    assert changes["images"]["added"]["count"] == 1
    curate("undo", "-d", "stripes")
    assert open_dataset("stripes").count("images") == 60
    number = open_dataset("stripes").commit.number
    assert [each["commit"] for each in lines(curate("history", "stripes", "--json"))] == list(range(number, 0, -1))
    curate("export", tmp_path / "out", "-d", "stripes", "--format", "coco", "--where", "split IS NULL")
    assert (tmp_path / "out").exists()

    assert bucket.objects()
    curate("rm", "stripes", "--yes")
    assert bucket.objects() == []
    assert dataset_files() == []


def test_no_secret_is_kept_or_shown(bucket: Bucket, stripes: Path) -> None:
    curate("import", stripes, "-d", "stripes")
    kept = b"".join(path.read_bytes() for path in dataset_path("stripes").rglob("*") if path.is_file())
    assert bucket.name.encode() in kept
    assert SECRET.encode() not in kept
    assert b"a-key-of-the-store" not in kept
    assert json.loads((dataset_path("stripes") / "store.json").read_text()).keys() == {"format", "tables"}


def test_two_homes_with_a_dataset_of_one_name_keep_apart(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("parts", "a.png")
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "another"))
    write("parts", "b.png", "c.png")
    curate("rm", "parts", "--yes")
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "curate-home"))
    assert open_dataset("parts").table("images")["location"].to_pylist() == ["a.png"]


def test_a_reader_keeps_its_view_and_a_crash_leaves_the_last_commit(bucket: Bucket) -> None:
    write("parts", "a.png")
    before = open_dataset("parts")
    code = (
        "import os, signal\n"
        "from curate.dataset import begin\n"
        "from tests.dataset.test_object_storage import images\n"
        "with begin('parts', command='crash') as transaction:\n"
        "    transaction.append('images', [images('b.png')])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert open_dataset("parts").table("images")["location"].to_pylist() == ["a.png"]
    write("parts", "c.png")
    assert open_dataset("parts").table("images")["location"].to_pylist() == ["a.png", "c.png"]
    assert before.table("images")["location"].to_pylist() == ["a.png"]


def test_a_first_write_that_fails_or_is_killed_leaves_nothing(bucket: Bucket) -> None:
    with pytest.raises(RuntimeError, match="halfway"):
        write_and_fail()
    assert bucket.objects() == []
    assert dataset_names() == []
    code = (
        "import os, signal\n"
        "from curate.dataset import begin\n"
        "from tests.dataset.test_object_storage import images\n"
        "with begin('parts', command='crash', create=True) as transaction:\n"
        "    transaction.append('images', [images('b.png')])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = {key.split("/")[1] for key in bucket.objects()}
    write("parts", "a.png")
    (place,) = {key.split("/")[1] for key in bucket.objects()}
    assert place != left
    assert open_dataset("parts").table("images")["location"].to_pylist() == ["a.png"]


def write_and_fail() -> None:
    with begin("parts", command="x", create=True) as transaction:
        transaction.append("images", [images("a.png")])
        raise RuntimeError("halfway")


def _write_part(target: FragmentTarget, part: int) -> str:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.full(400, part, np.float16)), 4)
    ids = [f"{part:08d}{row:08d}" for row in range(100)]
    return write_fragment(target, [pa.table([ids, [""] * 100, vectors], schema=target.schema)])


@pytest.mark.slow
def test_workers_write_fragments_into_the_bucket(bucket: Bucket) -> None:
    write("parts", "a.png")
    with (
        begin("parts", command="embed") as transaction,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers,
    ):
        target = transaction.fragment_target("embeddings/x", embeddings_schema(4))
        written = list(workers.map(_write_part, [target] * 3, range(3)))
        _write_part(target, 9)  # of a worker that was killed: nobody was told
        transaction.append_fragments("embeddings/x", written)
    table = open_dataset("parts").table("embeddings/x")
    assert table["id"].to_pylist() == [f"{part:08d}{row:08d}" for part in range(3) for row in range(100)]
    assert len([key for key in bucket.objects() if "/embeddings/x.lance/data/" in key]) == 3


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def test_a_dead_store_is_one_clear_error_and_the_dataset_stays_whole(
    bucket: Bucket, stripes: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    curate("import", stripes, "-d", "stripes")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")
    files = stored_files("stripes")
    for command in (["info", "stripes"], ["import", str(stripes), "-d", "stripes"]):
        result = curate(*command, status=3)
        assert result.stdout == ""
        assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["error", "   at", "   do"]
        assert "the object store does not answer, or refuses" in result.stderr
        assert "Traceback" not in result.stderr
        assert ".rs:" not in result.stderr
        assert f"{bucket.address}/stripes-" in result.stderr
    assert stored_files("stripes") == files
    result = curate("import", stripes, "-d", "others", status=3)
    assert "AWS_ENDPOINT_URL" in result.stderr
    assert dataset_names() == ["stripes"]
    monkeypatch.delenv("CURATE_TABLES")
    write("near", "a.png")
    listed = curate("ls", "--json", status=3)
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == ["near"]
    assert listed.stderr.startswith(f"stripes: {bucket.address}/stripes-")
    assert "the object store does not answer, or refuses" in listed.stderr
    curate("rm", "near", "--yes")
    monkeypatch.setenv("CURATE_TABLES", bucket.address)

    # Removed here; what could not be deleted there is said, and deleted by the next removal.
    result = curate("rm", "stripes", "--yes", status=3)
    assert "the dataset is removed, but its tables could not be deleted" in result.stderr
    assert dataset_names() == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert bucket.objects()
    write("parts", "a.png")
    curate("rm", "parts", "--yes")
    assert bucket.objects() == []
    assert dataset_files() == []


def test_a_store_that_dies_in_the_middle_leaves_the_last_commit(
    bucket: Bucket, unused_port: int, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    write("parts", "a.png")
    with pytest.raises(UnavailableError, match="does not answer"):
        write_while_it_dies(monkeypatch, unused_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert open_dataset("parts").table("images")["location"].to_pylist() == ["a.png"]
    assert [commit.number for commit in read_history(dataset_path("parts"))] == [1]
    write("parts", "c.png")
    assert open_dataset("parts").count("images") == 2


def write_while_it_dies(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    with begin("parts", command="x") as transaction:
        transaction.append("images", [images("b.png")])
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        transaction.upsert("images", images("c.png"), "image_id")


def test_a_store_that_refuses_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_TABLES", "s3://no-such-bucket/curate")
    with pytest.raises(UnavailableError, match="NoSuchBucket") as refused:
        write("parts", "a.png")
    assert "s3://no-such-bucket/curate/parts-" in str(refused.value.where)
    assert dataset_names() == []


def test_a_condition_that_is_wrong_is_no_fault_of_the_store(bucket: Bucket) -> None:
    write("parts", "a.png")
    with pytest.raises(UsageError, match="nosuch"):
        open_dataset("parts").count("images", where="nosuch = 1")
    assert open_dataset("parts").count("images", where="split = 'train'") == 1


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"s3://key:{SECRET}@bucket/x", "more than a bucket"),
        (f"s3://bucket/x?secret={SECRET}", "more than a bucket"),
        ("s3:///x", "names no bucket"),
        ("s3:/bucket/x", "'//' is missing"),
        ("s3:bucket/x", "'//' is missing"),
    ],
)
def test_addresses_that_cannot_be_meant_are_refused_without_being_shown(
    address: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_TABLES", address)
    with pytest.raises(UsageError, match=says) as refused:
        write("parts", "a.png")
    assert SECRET not in str(refused.value)
    assert dataset_names() == []


@pytest.mark.parametrize("endpoint", ["http://", "127.0.0.1:9000", "http://no host"])
def test_an_endpoint_that_is_no_address_is_one_clear_error(
    endpoint: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UnavailableError, match="does not answer, or refuses"):
        write("parts", "a.png")
    assert dataset_names() == []


def test_tables_on_a_shared_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    for address in (str(shared), f"{shared.as_uri()}/"):
        monkeypatch.setenv("CURATE_TABLES", address)
        write("parts", "a.png")
        monkeypatch.delenv("CURATE_TABLES")
        write("parts", "b.png")
        assert open_dataset("parts").count("images") == 2
        (place,) = shared.iterdir()
        assert open_dataset("parts").place == str(place)
        assert [path.name for path in place.iterdir()] == ["images.lance"]
        curate("rm", "parts", "--yes")
        assert list(shared.iterdir()) == []
    assert dataset_files() == []
