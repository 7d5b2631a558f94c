"""Where the runs are kept: MLFLOW_TRACKING_URI, or an SQLite file in this folder, which may be moved as a whole."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import mlflow
import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from study.plain import without_secrets
from study.tracking.errors import Place, no_mlflow, other_schema
from study.tracking.sqlite import sqlite_uri

# These log pages about SQLite's errors, which the study reports in one line, and lines about its tables
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
logging.getLogger("mlflow.utils.databricks_utils").setLevel(logging.CRITICAL)

EXPERIMENT = "age-study"
"""The experiment that every place of runs has; those of single questions (study.tracking.questions) begin so too."""
_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_DATABRICKS = ("databricks", "databricks-uc", "uc")
_EXPECTED = "expected http://host:5000, sqlite:///file.db or postgresql://..., or nothing for mlruns/ of this folder"
_WAIT = 20.0
"""Seconds to wait for a lock on SQLite's file: as long as MLflow does."""


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _trust_the_log(connection: object, _: object) -> None:
    """With SQLite's write-ahead log only its checkpoints wait for the disk: a kill loses nothing, and a power failure
    the last runs, not the file (https://sqlite.org/wal.html)."""
    if isinstance(connection, sqlite3.Connection):
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")


def given() -> str:
    """MLFLOW_TRACKING_URI, or "" where it is unset or blank."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip()


def is_server(uri: str) -> bool:
    return urlsplit(uri).scheme.lower() in _SERVERS


def place_of(uri: str) -> Place:
    """The place that a URI names, for messages: without its password."""
    typed = '"$MLFLOW_TRACKING_URI"'
    if not uri.startswith("sqlite"):
        return Place(without_secrets(uri), typed)
    try:
        file = Path(make_url(uri).database or "")
    except (ValueError, sqlalchemy.exc.ArgumentError):
        return Place(uri, typed)
    if given():
        return Place(str(file), typed)
    with contextlib.suppress(ValueError, OSError):
        return Place(str(file), shlex.quote(sqlite_uri(file.relative_to(Path.cwd()))))
    return Place(str(file), shlex.quote(uri))


# ---- what MLFLOW_TRACKING_URI names ----------------------------------------------------------------------------


def server_uri(uri: str) -> str:
    """The server's address without user and password, which are moved to the variables where MLflow reads them.

    Raises ConnectionError where it is no address.
    """
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname:
        raise ConnectionError(f"MLFLOW_TRACKING_URI={without_secrets(uri)} is no address: {_EXPECTED}")
    login, at, address = parts.netloc.rpartition("@")
    if not at:
        return uri
    user, _, password = login.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=address))


def open_given(uri: str) -> tuple[str, str]:
    """The URI for MLflow and the experiment's id, where MLFLOW_TRACKING_URI names anything but a server.

    Raises ValueError where MLflow cannot keep runs there, and the database's errors.
    """
    asked, scheme = f"MLFLOW_TRACKING_URI={without_secrets(uri)}", urlsplit(uri).scheme.lower()
    if uri.split(":")[0] in _DATABRICKS:
        pass
    elif scheme in ("", "file") or len(scheme) == 1:
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
            raise ValueError(f"{asked} is a folder, in which MLflow keeps no runs any more: {_EXPECTED}")
    elif scheme.split("+")[0] == "sqlite":
        uri = _open_sqlite(uri, asked)
    elif scheme.split("+")[0] in _DATABASES:
        _try_to_connect(uri)  # MLflow would silently try ten times
    elif "://" not in uri:
        raise ValueError(f"{asked} is not known to MLflow: {_EXPECTED}")
    try:
        client = MlflowClient(uri)
    except MlflowException as error:
        if "unsupported URI" not in str(error) and "registry" not in str(error).lower():
            raise
        raise ValueError(f"{asked} is not known to MLflow: {_EXPECTED}") from error
    return uri, experiment(client, None, place_of(uri))


def _open_sqlite(uri: str, asked: str) -> str:
    """The URI with an absolute path, since a worker's working directory is Ray's."""
    url = make_url(uri)
    if url.database in (None, "", ":memory:"):
        raise ValueError(f"{asked} keeps its runs in memory, where no later command finds them: {_EXPECTED}")
    if url.query:
        return uri
    file = Path(os.path.abspath(str(url.database)))
    file.parent.mkdir(parents=True, exist_ok=True)
    _check_writable(file)
    if file.exists() and file.stat().st_size:
        _check_sound(file)
    return _mlflow_uri(file)


def _try_to_connect(uri: str) -> None:
    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


# ---- the SQLite file of a folder -------------------------------------------------------------------------------


def open_local(home: Path) -> tuple[str, str]:
    """The URI of home/mlflow.db and the experiment's id in it; artifacts are in home/artifacts. Creates both.

    MLflow stores absolute paths of artifacts. Where the folder was renamed, moved or copied since, the paths in this
    database are updated, so that nothing is read from or written to the old place.
    """
    file, artifacts = home / "mlflow.db", home / "artifacts"
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if not isinstance(error, FileExistsError | NotADirectoryError | PermissionError):
            raise
        raise type(error)(
            f"{artifacts} cannot be made ({error.strerror}): expected a folder that this user may write to; change "
            "that, type the command in another folder, or name another place in MLFLOW_TRACKING_URI"
        ) from error
    _check_writable(file, artifacts)
    where = artifacts.as_uri()
    _make(file, where)
    _check_sound(file)
    uri = _mlflow_uri(file)
    client = MlflowClient(uri)
    if _follow(file, where):
        client = MlflowClient(uri)
    found = experiment(client, where, place_of(uri))
    _write_ahead(file)
    return uri, found


def _mlflow_uri(file: Path) -> str:
    """The file's URI with the driver's name: for sqlite:/// alone MLflow would create a folder of the quoted name."""
    return sqlite_uri(file).replace("sqlite:", "sqlite+pysqlite:", 1)


def experiment(client: MlflowClient, artifacts: str | None, place: Place, name: str = EXPERIMENT) -> str:
    """The id of an experiment, created if missing. Raises FileNotFoundError where it was deleted."""
    there = client.get_experiment_by_name(name)
    if there is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:  # another command was faster
            there = client.get_experiment_by_name(name)
            if there is None:
                raise
    if not there.experiment_id:
        raise no_mlflow(place, "the answer is empty")
    if there.lifecycle_stage == "deleted":
        number = there.experiment_id
        setting = "" if "MLFLOW" in place.typed else f"MLFLOW_TRACKING_URI={place.typed} "
        raise FileNotFoundError(
            f"the experiment {name!r} was deleted in MLflow ({place.shown}): bring it back with: "
            f"{setting}mlflow experiments restore --experiment-id {number}"
            + (
                ""
                if is_server(place.shown)
                else f" (or delete it for good with: {setting}mlflow gc --backend-store-uri {place.typed} "
                f"--experiment-ids {number})"
            )
        )
    return str(there.experiment_id)


def _check_writable(file: Path, *folders: Path) -> None:
    """Raises OSError where this user may not write to the file, its folder or one of the folders."""
    if file.exists() and not file.is_file():
        raise OSError(f"{file} is a folder: expected MLflow's database there; move it away")
    for place in (file.parent, file, *folders):  # SQLite writes further files into the folder
        if place.exists() and not os.access(place, os.W_OK | os.R_OK):
            raise PermissionError(
                f"this user may not write to {place}: make it writable, or name another place in MLFLOW_TRACKING_URI"
            )


def _check_sound(file: Path) -> None:
    """Raises sqlite3.Error where the file is no sound SQLite database of MLflow's: MLflow itself would try ten times.

    Raises OSError where another version of MLflow made it: MLflow would upgrade an earlier one in place, and a kill
    meanwhile would leave a file that no version can read.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=_WAIT)) as database:
        versions = database.execute("SELECT version_num FROM alembic_version").fetchall()
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok" or not versions:
        raise sqlite3.DatabaseError(f"database is malformed: {result}")
    if versions[0][0] not in ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations")).get_heads():
        raise OSError(other_schema(versions[0][0], place_of(_mlflow_uri(file))))


def _make(file: Path, artifacts: str) -> None:
    """Create the database under another name, then rename it: MLflow creates its tables in some fifty steps, and a kill
    between them leaves a file that no later command can open."""
    if file.exists() and file.stat().st_size:
        for left in file.parent.glob(f".{file.name}.*"):  # of a command that was killed
            left.unlink(missing_ok=True)
        return
    for log in ("-wal", "-shm"):  # of a deleted database: SQLite would apply them to the new one
        file.with_name(file.name + log).unlink(missing_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        client = MlflowClient(_mlflow_uri(new))
        experiment(client, artifacts, Place(str(file), str(file)))
        with contextlib.suppress(AttributeError):  # Windows deletes no open file
            client._tracking_client.store._dispose_engine()
        if file.exists() and not file.stat().st_size:
            file.unlink(missing_ok=True)
        _name(new, file)
    finally:
        new.unlink(missing_ok=True)


def _name(new: Path, file: Path) -> None:
    """Give the file its name, unless another command was faster."""
    try:
        os.link(new, file)
    except (FileExistsError, FileNotFoundError):
        pass
    except (OSError, AttributeError):  # no hard links on this disk
        if not file.exists():
            new.replace(file)


def _follow(file: Path, artifacts: str) -> bool:
    """Replace the folder in which this database was made by the present one, in one transaction. Returns whether they
    differ."""
    with contextlib.closing(sqlite3.connect(file, timeout=_WAIT, isolation_level=None)) as database:
        made = database.execute("SELECT name, artifact_location FROM experiments").fetchall()
        elsewhere = {
            location.removesuffix("/artifacts")
            for name, location in made
            if location and location.startswith("file:") and location != artifacts
            and (location.endswith("/mlruns/artifacts") or (name == EXPERIMENT and location.endswith("/artifacts")))
        }  # fmt: skip
        if not elsewhere:
            return False
        database.execute("BEGIN IMMEDIATE")
        for old in sorted(elsewhere):
            for table, column in _PLACES:
                if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
                    continue
                for before, after in ((old, artifacts.removesuffix("/artifacts")), _paths(old, artifacts)):
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (after, len(before) + 1, len(before) + 1, f"{before}/"),
                    )
        database.execute("COMMIT")
    return True


_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Table and column of all absolute paths in MLflow's schema."""


def _paths(old: str, artifacts: str) -> tuple[str, str]:
    """The two folders as paths: MLflow's default experiment has no URI."""
    return unquote(urlsplit(old).path), unquote(urlsplit(artifacts.removesuffix("/artifacts")).path)


def _write_ahead(file: Path) -> None:
    """Switch SQLite to its write-ahead log, for good: writing a run is several times faster, and a reader (mlflow ui)
    does not block the writer. Skipped where another process holds the file."""
    with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode=WAL")
