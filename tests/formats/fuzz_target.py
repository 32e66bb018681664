"""A target for coverage-guided fuzzing (atheris, libFuzzer): one reader on one annotation file of arbitrary bytes.

    python tests/formats/fuzz_target.py FORMAT SEED_FILE [libFuzzer options]

The bytes take the place of the seed file in an empty folder of their own. Anything raised but a `CurateError` is a crash.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["curate.formats"]):
    from curate.errors import CurateError
    from curate.formats.base import ReadOptions
    from curate.formats.losses import LossReport
    from curate.formats.registry import FORMATS

    READER = FORMATS.get(sys.argv[1])

SEED = Path(sys.argv[2])


def read(data: bytes) -> None:
    """Read the bytes as the format's file."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "export"
        source.mkdir()
        (source / SEED.name).write_bytes(data)
        try:
            READER.detect(source)
            records = READER.read(source, ReadOptions(files=Path(name) / "files"), LossReport())
            for table in records.annotations:
                table.validate()
        except CurateError:
            pass


if __name__ == "__main__":
    warnings.simplefilter("error")
    corpus = tempfile.mkdtemp(prefix="curate-fuzz-")
    (Path(corpus) / "seed").write_bytes(SEED.read_bytes())
    atheris.Setup([sys.argv[0], *sys.argv[3:], corpus], read)
    atheris.Fuzz()
