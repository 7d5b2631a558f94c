"""The place of the runs: folders of any name, moved folders, and one line for each store that cannot be used."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy

from study.cli.run import message
from study.process.home import ensure_home
from study.tracking import outage, spool, store
from study.tracking import runs as tracking
from study.tracking.look import how_to_look
from study.tracking.sqlite import sqlite_uri

pytestmark = pytest.mark.slow  # makes databases

ODD = ["a%20b", "what?", "x#y", "with space", "q'uo\"te", "日本", "se;mi", "{a}", "$HOME", "back\\slash", "a+b@c:d"]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A project's folder with a finished run and its file."""
    project = tmp_path_factory.mktemp("template")
    log(tracking.connect(home=project / "mlruns"), "first")
    return project


@pytest.fixture
def project(template, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, as the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def log(track: tracking.Tracking, key: str) -> str:
    run = tracking.find_or_start(track, key=key, name=key, stage="lopo")
    tracking.log_json(track, run, "about.json", {"key": key})
    tracking.finish(track, run, tags={tracking.COMPLETE: "yes"})
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def refusal(error: Exception) -> str:
    """The one line that a command prints for the error; fails if it would print a traceback."""
    line = message(error)
    assert line is not None, repr(error)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ODD)
def test_database_and_files_lie_in_a_project_of_any_name(template, tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = tmp_path / name
    shutil.copytree(template, project)
    monkeypatch.chdir(project)
    track = tracking.connect()
    run = log(track, "second")
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert (project / "mlruns" / "artifacts" / run / "artifacts" / "about.json").is_file()
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert tracking.read_json(track, run, "about.json") == {"key": "second"}


def test_a_new_store_in_an_oddly_named_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "a%20?b").mkdir()
    monkeypatch.chdir(tmp_path / "a%20?b")
    log(tracking.connect(), "first")
    assert [each.name for each in tmp_path.iterdir()] == ["a%20?b"]
    assert {each.name for each in Path("mlruns").iterdir()} >= {"mlflow.db", "artifacts"}


@pytest.mark.parametrize("name", ODD)
def test_sqlalchemy_opens_the_very_file_that_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    engine = sqlalchemy.create_engine(sqlite_uri(tmp_path / name / "x.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    engine.dispose()
    assert (tmp_path / name / "x.db").is_file()


def test_a_moved_project_reads_and_writes_where_it_is_now(project, monkeypatch, tmp_path):
    old = project
    first = log(tracking.connect(), "mine")
    monkeypatch.chdir(tmp_path)
    old.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    track = tracking.connect()
    assert tracking.read_json(track, first, "about.json") == {"key": "mine"}
    second = log(track, "after the move")
    assert (tmp_path / "elsewhere" / "mlruns" / "artifacts" / second / "artifacts" / "about.json").is_file()
    assert not old.exists()
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database:
        assert not [line for line in database.iterdump() if str(old) in line or "/template" in line]


def test_a_copy_leaves_the_original_untouched(project, monkeypatch, tmp_path):
    log(tracking.connect(), "mine")
    shutil.copytree(project, tmp_path / "copy")
    before = files(project)
    monkeypatch.chdir(tmp_path / "copy")
    log(tracking.connect(), "in the copy")
    assert files(project) == before


def test_places_that_are_not_this_folders_stay_as_they_are(project):
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database:
        for number, place in enumerate(("s3://bucket/artifacts", "file:///big/disk/artifacts")):
            database.execute(
                "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES (?, ?, 'active')",
                (f"other {number}", place),
            )
        database.commit()
    tracking.connect()
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database:
        places = {place for (place,) in database.execute("SELECT artifact_location FROM experiments")}
    assert {"s3://bucket/artifacts", "file:///big/disk/artifacts"} <= places
    assert (project / "mlruns" / "artifacts").as_uri() in places


def sql(statement: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement)
            database.commit()

    return change


def replace(data: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(data) and None


def cut(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def another_programs(file: Path) -> None:
    file.unlink()
    sql("CREATE TABLE t (x)")(file)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (
            sql("UPDATE alembic_version SET version_num = '4465047574b1'"),
            "mlflow db upgrade sqlite:///mlruns/mlflow.db",
        ),
        (sql("UPDATE alembic_version SET version_num = 'ffffffffffff'"), "a later MLflow"),
        (replace(b"This is no database. " * 500), "no SQLite database"),
        (cut, "a damaged one"),
        (folder, "is a folder"),
        (another_programs, "not one that MLflow made"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(project, harm, expected):
    harm(project / "mlruns" / "mlflow.db")
    with pytest.raises(OSError, match="mlflow.db") as caught:
        tracking.connect()
    assert expected in refusal(caught.value)


def test_an_empty_file_becomes_a_database(project):
    (project / "mlruns" / "mlflow.db").write_bytes(b"")
    log(tracking.connect(), "new")


def test_a_locked_database_is_one_line(project, monkeypatch):
    monkeypatch.setattr(store, "_WAIT", 0.2)
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="locked by another program") as caught:
            tracking.connect()
    refusal(caught.value)


def test_mlruns_that_is_a_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlruns").write_text("mine")
    with pytest.raises(OSError, match="expected a folder") as caught:
        tracking.connect(home=tmp_path / "mlruns")
    refusal(caught.value)


@pytest.mark.parametrize("closed", ["mlruns/mlflow.db", "mlruns", "mlruns/artifacts"])
def test_what_may_not_be_written_is_one_line(project, monkeypatch, closed):
    asked = os.access
    monkeypatch.setattr(  # root may write everywhere
        store.os, "access", lambda path, mode: asked(path, mode) and Path(path) != project / closed
    )
    with pytest.raises(PermissionError, match="make it writable") as caught:
        tracking.connect()
    assert str(project / closed) in refusal(caught.value)


def test_an_experiment_deleted_in_mlflows_page_is_one_line_and_its_command_brings_it_back(project):
    track = tracking.connect()
    track.client.delete_experiment(track.experiment)
    with pytest.raises(FileNotFoundError) as caught:
        tracking.connect()
    assert (
        f"MLFLOW_TRACKING_URI=sqlite:///mlruns/mlflow.db mlflow experiments restore --experiment-id {track.experiment}"
    ) in refusal(caught.value)
    track.client.restore_experiment(track.experiment)  # what this command does
    assert [name for _, name, _ in tracking.finished(tracking.connect(), stage="lopo")] == ["first"]


def test_a_run_deleted_meanwhile_is_one_line_and_the_next_command_begins_another(project):
    track = tracking.connect()
    run = log(track, "mine")
    track.client.delete_run(run)
    for write in (
        lambda: tracking.log_steps(track, run, [(0, {"mae": 1.0})]),
        lambda: tracking.finish(track, run),
    ):
        with pytest.raises(OSError, match="was deleted in MLflow") as caught:
            write()
        assert run in refusal(caught.value)
    assert log(track, "mine") != run


def test_trials_of_a_deleted_sweep_go_to_its_successor(project):
    track = tracking.connect()
    gone = log(track, "sweep 'a' \"b\"")
    about = {"key": "sweep 'a' \"b\"-0", "name": "trial", "stage": "trial"}
    trial = tracking.find_or_start(track, parent=gone, **about)
    track.client.delete_run(gone)
    parent = log(track, "sweep 'a' \"b\"")
    assert parent != gone
    assert tracking.find_or_start(track, parent=parent, **about) == trial
    assert set(tracking.children(track, parent)) == {"sweep 'a' \"b\"-0"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("./mlruns", "is a folder, in which MLflow keeps no runs"),
        ("file:///tmp/x", "is a folder, in which MLflow keeps no runs"),
        ("nonsense://", "is not known to MLflow"),
        ("localhost:5000", "is not known to MLflow"),
        ("http://", "is no address"),
        ("http://user:geheim@host:port", "is no address"),
        ("http://user:ge/heim@host", "is no address"),
        ("sqlite://", "keeps its runs in memory"),
        ("sqlite:/x.db", "Could not parse"),
        ("postgresql+psycopg2://user:geheim@127.0.0.1:9/db", "Connection refused"),
        ("postgresql+psycopg2://127.0.0.1:9/db?user=me&password=geheim", "Connection refused"),
        ("mysql+nothing://user:geheim@127.0.0.1:9/db", "Can't load plugin"),
    ],
)
def test_a_tracking_uri_that_leads_nowhere_is_one_line_without_its_password(project, monkeypatch, capfd, uri, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises((OSError, ValueError)) as caught:
        tracking.connect()
    line = refusal(caught.value)
    assert expected in line
    printed = capfd.readouterr()
    assert "heim" not in line + printed.out + printed.err + repr(list(files(project)))


@pytest.mark.parametrize("uri", ["", "  "])
def test_an_empty_tracking_uri_is_none(project, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking.connect().place.shown == str(project / "mlruns" / "mlflow.db")
    assert "python -m study.ui" in how_to_look(tracking.connect())


def test_a_relative_sqlite_uri_is_of_the_folder_it_was_typed_in(project, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    track = tracking.connect()
    monkeypatch.chdir(tmp_path)
    assert [name for _, name, _ in tracking.finished(track, stage="lopo")] == ["first"]
    assert list(tmp_path.iterdir()) == [project]


@pytest.fixture
def answers() -> Iterator[Callable[[int, bytes], str]]:
    """answers(status, body) starts a server that always answers so, and returns its address without http://."""
    running = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{running[-1].server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html><title>Sign in</title></html>"),
        (404, b"<html>no such page</html>"),
        (404, b'{"detail": "no such page"}'),
        (200, b'{"hello": "world"}'),
        (200, b""),
    ],
)
def test_a_server_that_is_not_mlflows_is_one_line_at_once(tmp_path, monkeypatch, answers, capfd, status, body):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(outage, "PATIENCE", 1000.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:geheim@{answers(status, body)}")
    with pytest.raises(ConnectionError, match="not as an MLflow server does") as caught:
        tracking.connect(home=tmp_path)
    printed = capfd.readouterr()
    assert "geheim" not in refusal(caught.value) + printed.out + printed.err + how_to_look(
        tracking.Tracking("http://host", "1")
    )
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "geheim"  # where MLflow looks for it


COMMANDS = ("align", "crosstest", "lopo", "predict", "pretrain", "refit", "report", "sweep", "tour", "ui")


def test_commands_are_imported_and_records_sent_where_there_is_no_fcntl_and_no_hard_link(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name == "study" or name.startswith("study.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it is an ImportError
    monkeypatch.delattr(os, "link")
    for name in COMMANDS:
        importlib.import_module(f"study.{name}")
    fresh = importlib.import_module("study.tracking.spool")
    assert fresh is not spool
    waiting = fresh.Spool(tmp_path / "waiting")
    waiting.add({"run": "a"})
    assert waiting.send(lambda record, files: record == {"run": "a"}) == 1
    assert waiting.waiting() == []
    (tmp_path / "new").write_text("tables")
    importlib.import_module("study.tracking.store")._name(tmp_path / "new", tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_text() == "tables"


def test_a_user_without_name_and_home_has_one(tmp_path, monkeypatch):
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # KeyError: the number is nobody's
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.environ", dict(os.environ))
    ensure_home()
    assert Path.home().is_relative_to(tmp_path)
    assert Path.home().stat().st_mode & 0o077 == 0
    assert os.environ["USER"] == f"user{os.getuid()}"
