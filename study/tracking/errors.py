"""What MLflow, SQLAlchemy and requests raise, as one line: what, where, what was expected, what to do."""

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
    """Where the runs are kept: as people read it, and as it is typed after `mlflow db upgrade`."""

    shown: str
    typed: str


@contextlib.contextmanager
def translated(place: Place) -> Iterator[None]:
    """Errors of the libraries below as an OSError of one line; the study's own errors, and bugs, pass as they are."""
    try:
        yield
    except Exception as error:
        if not _is_foreign(error):
            raise
        raise OSError(_line(error, place)) from error


def is_outage(error: Exception) -> bool:
    """Whether the server, its database, the network or the password failed, rather than the request."""
    if not isinstance(error, MlflowException):
        return isinstance(error, RequestException)
    if "404 Client Error" in str(error):  # a file that is not there
        return False
    status = error.get_http_status_code()
    # BAD_REQUEST is what MLflow makes of a database connection that broke in the middle; a wrong value is another code
    return status >= 500 or status in (401, 403, 408, 429) or error.error_code == "BAD_REQUEST"


def why_never(error: Exception, place: Place) -> OSError | None:
    """The error to end with where asking a server again is of no use; None where it may answer later."""
    text = str(error)
    if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
        return PermissionError(
            f"the MLflow server at {place.shown} lets nobody in so ({brief(error)}): its user and password "
            "belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or in ~/.mlflow/credentials, and "
            "its --allowed-hosts must name this address"
        )
    if "WRONG_VERSION_NUMBER" in text:
        return ConnectionError(f"{place.shown} does not speak https: expected http:// in MLFLOW_TRACKING_URI, perhaps")
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return ConnectionError(
            f"the certificate of {place.shown} is not trusted here ({brief(error)}): name its file in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH"
        )
    if any(sign in text for sign in ("Invalid url", "InvalidURL", "No host supplied", "Failed to parse", "URL has an")):
        return ConnectionError(f"MLFLOW_TRACKING_URI={place.shown} is no address: expected one like http://host:5000")
    if re.search(_STRANGER, text):
        return no_mlflow(place, brief(error))
    return None


def no_mlflow(place: Place, why: str) -> ConnectionError:
    """The error for a server that is another program."""
    return ConnectionError(
        f"{place.shown} answers, but not as an MLflow server does ({why}): is it a proxy's login page, or another "
        "program's port? MLFLOW_TRACKING_URI is to be an address like http://host:5000"
    )


def other_schema(found: str, place: Place) -> str:
    """What to do with a database of another version of MLflow, whose schema's name is found."""
    ours = f"MLflow {mlflow.__version__} here"
    versions = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(file.name.startswith(found) for file in versions.glob("*.py")):
        return (
            f"{place.shown} was made by an earlier MLflow (its schema is {found}) than {ours}: make a copy of it, then "
            f"type: mlflow db upgrade {place.typed}"
        )
    return (
        f"{place.shown} was made by another, most likely a later MLflow (its schema, {found}, is not known) than "
        f"{ours}: install that one, or move the database away"
    )


def _is_foreign(error: BaseException) -> bool:
    """Whether it is an error of a library below, or one of Python's own that such a library met."""
    if type(error).__module__.split(".")[0] in _LIBRARIES:
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_by = str(frames[-1].f_globals.get("__name__", "")).split(".")[0] if frames else ""
    return raised_by in _LIBRARIES and isinstance(error, ValueError | ImportError | RuntimeError)


def _line(error: Exception, place: Place) -> str:
    text, where = str(error), place.shown
    for signs, told in _KNOWN:
        if any(sign in text for sign in signs):
            return told.format(where=where, typed=place.typed, again=_AGAIN)
    found = re.search(r"found version (\w+)|Can't locate revision identified by '(\w+)'", text)
    if found:
        return other_schema(found[1] or found[2], place)
    if isinstance(error, ImportError):
        return (
            f"{where} needs a package that is not installed here ({brief(error)}): install it with pip, or name a "
            "driver that is, as in postgresql+psycopg2://"
        )
    gone = re.search(_GONE, text)
    if gone:
        return (
            f"{gone[1].lower()} {gone[2]} was deleted in MLflow ({where}) while this command wrote to it: {_AGAIN}, "
            "and what is missing is written to a new one"
        )
    missing = re.search(r"No such artifact: '([^']+)'", text) or re.search(r"File (\S+) #+[^#]*404 Client Error", text)
    if missing:
        return f"its file {missing[1]} is not there (deleted, or not copied?): put it back, or run its command again"
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
        "{where} is locked by another program, an open database browser perhaps: end that one, and {again}",
    ),
    (
        ("readonly database", "read-only database", "unable to open database file"),
        "{where} cannot be opened for writing by this user: expected a file and a folder that are theirs; change that, "
        "or name another place in MLFLOW_TRACKING_URI",
    ),
    (
        ("not a database", "malformed", "file is encrypted"),
        "{where} is no SQLite database, or a damaged one: put a good copy in its place or move it away, and {again}",
    ),
    (
        ("no such table", "no such column"),
        "{where} is a database, but not one that MLflow made whole: move it away, and {again}",
    ),
)


def _start(error: Exception) -> str:
    """The start of a message on one line, without secrets, nor what SQLAlchemy writes below it."""
    text = without_secrets(str(error).split("\n[SQL")[0].split("(Background on")[0])
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) < 300 else f"{text[:290]} ..."
