"""`python -m study.ui` as a server: who may look, and what it does not serve."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from study.ui.command import is_loopback, password_for
from tests.ui.pages import links_of

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse 100%"
API = "/api/2.0/mlflow/experiments/search?max_results=9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with one experiment of the study and a saved view."""
    from study.tracking import runs as tracking
    from study.tracking.questions import question
    from study.tracking.views import View, save

    place = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        track = question(tracking.connect(home=place / "mlruns"), "sweep small", note="What was asked.")
        save(track, [View("trials", "Trials by MAE", "", "metrics.mae", ["metrics.mae"])])
    return place


@contextmanager
def serving(folder: Path, *args: str, password: str = "") -> Iterator[tuple[str, int]]:
    """study.ui in a process of its own; gives the host that is spoken to, and the port."""
    log = folder / "ui.log"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "", "STUDY_UI_PASSWORD": password}
    with log.open("w") as sink:
        command = [sys.executable, "-m", "study.ui", str(folder), "--port", "0", *args]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    try:
        link = next(iter(links_of(process, log).values()))
        port = urlsplit(link).port
        assert port
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(60)


def status(door: tuple[str, int], path: str, *, user: str = "", password: str = "", host: str = "") -> int:
    """The status of an answer. host: another name in the request than the one that was connected to."""
    headers = {"Host": host} if host else {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    until = time.monotonic() + 300
    while True:
        connection = HTTPConnection(*door, timeout=300)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        except ConnectionRefusedError:  # the links are printed before MLflow is imported
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        finally:
            connection.close()


def test_others_need_the_password(folder):
    with serving(folder, "--host", "0.0.0.0", password=PASSWORD) as door:
        assert status(door, "/") == 401
        assert status(door, API) == 401
        assert status(door, API, user="study", password="another password") == 401
        assert status(door, API, user="admin", password="password1234") == 401, "MLflow's own first user"
        assert status(door, API, user="study", password=PASSWORD) == 200
        assert status(door, "/", user="study", password=PASSWORD) == 200


def test_on_this_machine_without_a_password_and_only_by_its_own_name(folder):
    with serving(folder) as door:
        assert status(door, "/") == 200
        assert status(door, API) == 200
        assert status(door, API, host="elsewhere.example") == 403, (
            "a page elsewhere cannot read the runs by its own name"
        )
        for path in ("/ajax-api/3.0/mlflow/assistant/config", "/gateway/anything", "/api/3.0/jobs/1"):
            assert status(door, path) == 404


def test_another_host_is_refused_without_a_good_password(monkeypatch):
    for password in ("", "short"):
        monkeypatch.setenv("STUDY_UI_PASSWORD", password)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
        with pytest.raises(ValueError, match="at least 12 characters in STUDY_UI_PASSWORD.*ssh -L"):
            password_for("0.0.0.0")
    assert password_for("127.0.0.1") == ""


def test_what_loopback_is():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.8.8.8", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", ""]))
