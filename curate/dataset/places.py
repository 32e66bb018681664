"""Where a dataset's tables are: in its own folder, in a folder that machines share, or in an object store.

HEAD, commits and the lock always stay in the dataset's folder under ``$CURATE_HOME``: one driver writes, HEAD is
replaced by a rename, and the lock is the operating system's; object stores have neither. Only tables, which workers
on other machines read and write, go elsewhere. Credentials come from the environment whenever a table is opened; what
is recorded is the address alone.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from curate.errors import CurateError, DatasetCorrupt, UnavailableError, UsageError
from curate.files import write_atomic
from curate.redaction import hide, redact

TABLES_VARIABLE: Final = "CURATE_TABLES"
FORMAT: Final = 1
"""Version of the record; a newer one is refused."""

_SECRETS: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")
_SOURCE_LINE: Final = re.compile(r",? /\S+\.rs:\d+:\d+")
_LEAD: Final = re.compile(r"^(LanceError\(\w+\): |Encountered internal error\S* )")
_XML: Final = re.compile(r"<Code>([^<]*)</Code>\s*(?:<Message>([^<]*)</Message>)?")
_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
_OF_THE_STORE: Final = re.compile(r"Error performing|Generic \w+ error|credential|lacked the necessary", re.IGNORECASE)
_MISTYPED: Final = re.compile(r"[a-z][a-z0-9+.\-]+:(?!//)")
_SHOWN: Final = 300


def is_local(address: str) -> bool:
    """Whether an address is a path rather than a URI of an object store."""
    return "://" not in address


def table_address(place: str, table: str) -> str:
    """The address of a table among a dataset's tables, which are at `place`."""
    return f"{place}/{table}.lance"


def own_place(folder: Path) -> str:
    """Where a dataset's tables are unless something else was chosen: in its folder."""
    return str(folder / "tables")


def record_of(folder: Path) -> Path:
    """The file in a dataset's folder that says where its tables are; not there if they are in the folder."""
    return folder / "store.json"


def read_place(folder: Path) -> str:
    """Where the tables of the dataset in `folder` are.

    Raises:
        DatasetCorrupt: The record of it cannot be read, or was written by a newer curate.
    """
    record = record_of(folder)
    try:
        content = json.loads(record.read_bytes())
        if content["format"] == FORMAT:
            return str(content["tables"])
    except FileNotFoundError:
        return own_place(folder)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetCorrupt("it does not say where the tables are", where=record) from error
    raise DatasetCorrupt(
        f"the record has format {content['format']}, newer than this curate reads", where=record, remedy="upgrade"
    )


def choose_place(folder: Path) -> str:
    """Decide where a new dataset's tables go, by ``$CURATE_TABLES``, and record it in the dataset's folder.

    Everything below the place belongs to this dataset: its last part has a random number, so that datasets of the
    same name made on other machines keep out of each other's way.

    Raises:
        UsageError: The variable has an address that cannot be meant.
    """
    chosen = os.environ.get(TABLES_VARIABLE)
    if not chosen:
        return own_place(folder)
    place = f"{_checked(chosen)}/{folder.name}-{secrets.token_hex(4)}"
    write_atomic(record_of(folder), json.dumps({"format": FORMAT, "tables": place}).encode("utf-8", "surrogatepass"))
    return place


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Turn what the storage engine raises in the block into one clear error.

    Args:
        address: Of the table that is read or written.

    Raises:
        UnavailableError: The object store does not answer, or refuses.
        OSError: The disk is full, the file may not be written ...: with its number and the address.
    """
    if not is_local(address):
        for name in _SECRETS:
            hide(os.environ.get(name, ""))
    try:
        yield
    except CurateError:
        raise
    except BaseException as error:
        # Lance's store panics on an endpoint that is no URL; of that exception the type cannot be imported.
        if not isinstance(error, OSError | ValueError | RuntimeError) and type(error).__name__ != "PanicException":
            raise
        if not is_local(address):
            raise refused(error, address) from error
        if number := _OS_ERROR.search(str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), address) from error
        raise


def is_of_the_store(error: BaseException) -> bool:
    """Whether an error tells of an object store that does not answer or refuses, rather than of what was asked."""
    return _OF_THE_STORE.search(str(error)) is not None


def refused(error: BaseException, address: str) -> UnavailableError:
    """The error for an object store that does not answer or refuses."""
    return UnavailableError(
        f"the object store does not answer, or refuses: {redact(reason(error))}",
        where=address,
        remedy="check address, credentials and network: AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http://), AWS_REGION, "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; nothing was committed, and all commits are as they were",
    )


def reason(error: BaseException) -> str:
    """What the storage engine's error says to a user, in one line without places in its source."""
    text = _LEAD.sub("", _SOURCE_LINE.sub("", str(error)))
    if said := _XML.search(text):
        return ": ".join(part for part in said.groups() if part)
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."


def _checked(chosen: str) -> str:
    """The address in a form that all tables' addresses begin with: no slash at its end, a path absolute."""
    if _MISTYPED.match(chosen):
        raise UsageError(
            "the address is neither a path nor a URI: '//' is missing",
            where=f"{TABLES_VARIABLE}={chosen}",
            remedy="s3://BUCKET/PREFIX, or a path that begins with '/' or './'",
        )
    if is_local(chosen):
        return str(Path(chosen).expanduser().absolute())
    parts = urlsplit(chosen)
    if parts.scheme == "file":
        return str(Path(unquote(parts.path)))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "the address holds more than a bucket and a prefix",
            where=TABLES_VARIABLE,
            remedy="s3://BUCKET/PREFIX; credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if not parts.netloc:
        raise UsageError(
            "the address names no bucket", where=f"{TABLES_VARIABLE}={chosen}", remedy="s3://BUCKET/PREFIX"
        )
    return chosen.rstrip("/")
