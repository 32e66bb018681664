"""FiftyOne, imported as curate wants it: nothing sent anywhere, nothing read or kept in the user's own FiftyOne folders.

FiftyOne reads its settings from the environment when it is imported, and hands the environment on to its server. Both are
seen to here and nowhere else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from curate.connectors.fiftyone.database import INSTEAD, URI_VARIABLE, app_folder, database
from curate.environment import environment
from curate.errors import MissingExtra, UnavailableError

_ANSWER_MS: Final = 5_000
_AWAY_MS: Final = 15_000
"""For how long a database that answered before may be away, before that is an error."""
_PRIVATE_PORT: Final = "FIFTYONE_PRIVATE_DATABASE_PORT"


@contextmanager
def connected() -> Iterator[Any]:
    """The package fiftyone, connected to a database for as long as the block lasts.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UnavailableError: It cannot be imported, or its database cannot be reached; says what to do.
    """
    if find_spec("fiftyone") is None:
        error = MissingExtra("fiftyone", "app")
        error.remedy = f"{error.remedy}; {INSTEAD}"
        raise error
    own = URI_VARIABLE not in os.environ
    with database() as uri, _settings(uri, own=own):
        package = _import()
        _connect(package, uri, own=own)
        try:
            yield package
        except import_module("pymongo").errors.PyMongoError as error:
            raise UnavailableError(
                f"FiftyOne's database does not answer any more: {_reason(error)}",
                where=_place(uri, own=own),
                remedy="run the command again: what was done in the App before is taken over then",
            ) from None
        finally:
            _disconnect()


@contextmanager
def _settings(uri: str, *, own: bool) -> Iterator[None]:
    """FiftyOne's part of the environment, put back afterwards."""
    folder = app_folder()
    settings = {
        URI_VARIABLE: uri,
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        "FIFTYONE_LOGGING_LEVEL": "ERROR",
        "FIFTYONE_LOGGING_DESTINATION": "stdout,stderr",  # errors to stderr; any other word and the level is ignored
        "FIFTYONE_SINGLETON_CACHE": "false",
        "FIFTYONE_DEFAULT_APP_ADDRESS": "127.0.0.1",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    for name in ("CONFIG", "APP_CONFIG", "ANNOTATION_CONFIG", "EVALUATION_CONFIG", "BRAIN_CONFIG"):
        settings[f"FIFTYONE_{name}_PATH"] = str(folder / "settings" / f"{name.lower()}.json")
    for name in ("DEFAULT_DATASET", "PLUGINS", "DATASET_ZOO", "MODEL_ZOO"):
        settings[f"FIFTYONE_{name}_DIR"] = str(folder / name.lower())
    if own:
        settings |= {"FIFTYONE_DATABASE_VALIDATION": "false", "FIFTYONE_DATABASE_NAME": "fiftyone"}
    with environment({**settings, _PRIVATE_PORT: None}):
        yield


def _import() -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages that it imports
            return import_module("fiftyone")
    except Exception as error:  # a broken installation may raise anything
        raise UnavailableError(
            f"FiftyOne is installed, but cannot be imported: {error}",
            remedy=f"pip install --force-reinstall 'curate-vision[app]'; {INSTEAD}",
        ) from error


def _connect(package: Any, uri: str, *, own: bool) -> None:
    """Connect anew: an earlier block of this process may have had its database at another port."""
    odm = import_module("fiftyone.core.odm.database")
    package.config.database_uri = uri
    package.config.database_validation = not own and package.config.database_validation
    odm._connection_kwargs.clear()
    odm._connection_kwargs["serverSelectionTimeoutMS"] = _AWAY_MS
    try:
        with import_module("pymongo").MongoClient(uri, serverSelectionTimeoutMS=_ANSWER_MS) as client:
            client.admin.command("ping")
        odm.get_db_conn()
    except Exception as error:  # pymongo's, FiftyOne's and built-in errors alike
        _disconnect()
        raise UnavailableError(
            f"FiftyOne's database cannot be used: {_reason(error)}",
            where=_place(uri, own=own),
            remedy=f"check that the server runs and may be used, or unset {URI_VARIABLE} for curate's own; {INSTEAD}",
        ) from None


def _disconnect() -> None:
    """Close all connections, so that nothing waits for a database that is gone when the process ends."""
    import_module("fiftyone.core.odm.database")._disconnect()
    factory = sys.modules.get("fiftyone.factory.repo_factory")
    if factory is not None:  # it keeps connections of its own
        factory.RepositoryFactory.repos.clear()
        factory._db = None  # type: ignore[attr-defined]


def _place(uri: str, *, own: bool) -> str:
    """What to call the database: its hosts and ports, for the rest of its address may hold a password."""
    hosts = re.split(r"[/?]", uri.partition("://")[2].rpartition("@")[2])[0]
    return f"curate's own database ({hosts})" if own else f"{URI_VARIABLE} ({hosts})"


def _reason(error: BaseException) -> str:
    """What is wrong, in a few words: the driver adds its time limits and all that it knows of each server."""
    if isinstance(error, import_module("pymongo").errors.ServerSelectionTimeoutError):
        said = re.split(r" \(configured timeouts|, Timeout: ", str(error))[0]
        return f"it does not answer ({said})"
    cause = error.__cause__ or error
    return (str(error).splitlines() or [type(cause).__name__])[0]
