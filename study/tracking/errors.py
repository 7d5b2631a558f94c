"""Errors of MLflow, SQLAlchemy and requests, as one line: what, where, what was expected, what to do."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from requests import RequestException

from study.plain import brief, without_secrets

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "sqlite3", "psycopg2", "pymysql", "databricks")
_AGAIN = "type the same command again"


@dataclass(frozen=True)
class Place:
    """The place of the runs: as people read it, and as it is typed after `mlflow db upgrade`."""

    shown: str
    typed: str


@contextlib.contextmanager
def translated(place: Place) -> Iterator[None]:
    """Turn errors of these libraries into an OSError of one line. The study's own errors, and bugs, pass unchanged."""
    try:
        yield
    except Exception as error:
        if not _is_foreign(error):
            raise
        raise OSError(_line(error, place)) from error


def is_outage(error: Exception) -> bool:
    """Whether the server, its database, the network or the password failed, and not the request."""
    if not isinstance(error, MlflowException):
        return isinstance(error, RequestException)
    if "404 Client Error" in str(error):  # an artifact that does not exist
        return False
    status = error.get_http_status_code()
    # MLflow says BAD_REQUEST when its connection to the database breaks; a wrong value has another code
    return status >= 500 or status in (401, 403, 408, 429) or error.error_code == "BAD_REQUEST"


def why_never(error: Exception, place: Place) -> OSError | None:
    """The error to end with where it is of no use to ask the server again; None where it may answer later."""
    text = str(error)
    if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
        return PermissionError(
            f"the MLflow server at {place.shown} refuses this user ({brief(error)}): give its user and password in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or in ~/.mlflow/credentials; the server's "
            "--allowed-hosts must contain this address"
        )
    if "WRONG_VERSION_NUMBER" in text:
        return ConnectionError(f"{place.shown} does not speak https: try http:// in MLFLOW_TRACKING_URI")
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return ConnectionError(
            f"the certificate of {place.shown} is not trusted here ({brief(error)}): give its file in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH"
        )
    if any(sign in text for sign in ("Invalid url", "InvalidURL", "No host supplied", "Failed to parse", "URL has an")):
        return ConnectionError(f"MLFLOW_TRACKING_URI={place.shown} is no address: expected one like http://host:5000")
    if re.search(_STRANGER, text):
        return no_mlflow(place, brief(error))
    return None


def no_mlflow(place: Place, why: str) -> ConnectionError:
    """The error for an address at which another program answers."""
    return ConnectionError(
        f"{place.shown} answers, but not as an MLflow server does ({why}): it may be a proxy's login page, or another "
        "program's port; expected an address like http://host:5000 in MLFLOW_TRACKING_URI"
    )


def other_schema(found: str, place: Place) -> str:
    """What to do with a database of another version of MLflow, whose schema is `found`."""
    ours = f"MLflow {mlflow.__version__} here"
    versions = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(file.name.startswith(found) for file in versions.glob("*.py")):
        return (
            f"{place.shown} was made by an earlier MLflow than {ours} (its schema is {found}): copy it, then type: "
            f"mlflow db upgrade {place.typed}"
        )
    return (
        f"{place.shown} was made by another MLflow, probably a later MLflow than {ours} (its schema, {found}, is "
        "unknown): install that one, or move the database away"
    )


def _is_foreign(error: BaseException) -> bool:
    """Whether it is an error of these libraries, or one of Python's own raised in them."""
    if type(error).__module__.split(".")[0] in _LIBRARIES:
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_by = str(frames[-1].f_globals.get("__name__", "")).split(".")[0] if frames else ""
    return raised_by in _LIBRARIES and isinstance(error, ValueError | ImportError | RuntimeError)


def _line(error: Exception, place: Place) -> str:
    text, where = str(error), place.shown
    for signs, line in _KNOWN:
        if any(sign in text for sign in signs):
            return line.format(where=where, typed=place.typed, again=_AGAIN)
    found = re.search(r"found version (\w+)|Can't locate revision identified by '(\w+)'", text)
    if found:
        return other_schema(found[1] or found[2], place)
    if isinstance(error, ImportError):
        return (
            f"{where} needs a package that is not installed here ({brief(error)}): install it with pip, or name "
            "another driver, as in postgresql+psycopg2://"
        )
    gone = re.search(_GONE, text)
    if gone:
        return (
            f"{gone[1].lower()} {gone[2]} was deleted in MLflow ({where}) while this command wrote to it: {_AGAIN}, "
            "which starts a new one"
        )
    missing = re.search(r"No such artifact: '([^']+)'", text) or re.search(r"File (\S+) #+[^#]*404 Client Error", text)
    if missing:
        return f"its artifact {missing[1]} is missing (deleted, or not copied): put it back, or run its command again"
    return f"MLflow at {where} refused: {_start(error)} (the whole error: STUDY_TRACEBACK=1)"


_STRANGER = (
    r"valid JSON|Expecting value|BadStatusLine|Response: \{|"
    r"failed with error code (30\d|4(?!01|03|08|29)\d\d|501)"
)
_GONE = r"(?i)\b(run|experiment)\b.*?(?:'|=|\s)([0-9a-f]{32}|\d+)\b.*(deleted|not found|does not exist)"
_KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("disk is full", "disk I/O error"),
        "{where} cannot be written, its disk is full or broken: make room, and {again}",
    ),
    (
        ("is locked",),
        "{where} is locked by another program, such as a database browser: close it, and {again}",
    ),
    (
        ("readonly database", "read-only database", "unable to open database file"),
        "{where} cannot be opened for writing by this user: make the file and its folder writable, or name another "
        "place in MLFLOW_TRACKING_URI",
    ),
    (
        ("not a database", "malformed", "file is encrypted"),
        "{where} is no SQLite database, or a damaged one: replace it by a good copy or move it away, and {again}",
    ),
    (
        ("no such table", "no such column"),
        "{where} is a database, but not one that MLflow made, or not a complete one: move it away, and {again}",
    ),
)


def _start(error: Exception) -> str:
    """The start of a message on one line, without secrets and without what SQLAlchemy adds to it."""
    text = without_secrets(str(error).split("\n[SQL")[0].split("(Background on")[0])
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) < 300 else f"{text[:290]} ..."
