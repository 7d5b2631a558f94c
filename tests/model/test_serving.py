"""A registered model answers a POST with a base64 photo, in a process that has neither torch nor this repository."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from study.artifacts.model import ModelRecord
from study.model import load_model
from study.refit.register import log_and_register
from study.tracking import models
from study.tracking import runs as tracking
from tests.model.models import PHOTOS

pytestmark = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="the extra dlib is not installed")
PHOTO = sorted(PHOTOS.iterdir())[0]


@pytest.fixture(scope="module")
def place(folder, tmp_path_factory) -> Path:
    """A working directory whose MLflow has the model, registered."""
    cwd = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(cwd)
        store = tracking.connect()
        run_id = tracking.find_or_start(store, key="refit-test", name="refit", stage="refit")
        said = log_and_register(store, run_id, ModelRecord.read(folder), folder, register=True)
        tracking.finish(store, run_id)
    assert said == "registered as facial-age version 1, now facial-age@champion"
    return cwd


def outside(cwd: Path) -> dict[str, str]:
    """An environment without this repository on Python's path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # MLflow starts uvicorn by its name
    return {
        **kept,
        "PATH": path,
        "MLFLOW_TRACKING_URI": f"sqlite:///{cwd / 'mlruns' / 'mlflow.db'}",
        "OMP_NUM_THREADS": "1",
    }


def test_the_registry_knows_the_content_and_gives_the_folder_back(place, folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(place)
    store = tracking.connect()
    assert models.registered_version(store, "facial-age", ModelRecord.read(folder).content) == "1"
    assert models.registered_version(store, "facial-age", "another") is None
    model = load_model("models:/facial-age@champion")
    assert model.predict_rows([PHOTO]) == load_model(folder).predict_rows([PHOTO])
    with pytest.raises(FileNotFoundError, match=r"no model models:/facial-age@nobody"):
        load_model("models:/facial-age@nobody")
    (logged,) = store.client.search_logged_models([store.experiment])
    assert logged.name == "facial-age"
    inputs = store.client.get_logged_model(logged.model_id)
    assert inputs is not None


def test_a_synthetic_model_does_not_take_the_alias_from_a_real_one(place, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(place)
    store = tracking.connect()
    (logged,) = store.client.search_logged_models([store.experiment])
    tags = {models.CONTENT: "z", models.SYNTHETIC: "yes"}
    found = models.register_model(store, f"models:/{logged.model_id}", name="facial-age", alias="champion", tags=tags)
    assert found == ("2", False)
    assert str(store.client.get_model_version_by_alias("facial-age", "champion").version) == "1"


def test_a_fresh_process_loads_it_without_torch_and_without_the_training_code(place, folder):
    script = (
        "import base64, sys, mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model('models:/facial-age@champion')\n"
        "photo = base64.b64encode(open(sys.argv[1], 'rb').read()).decode()\n"
        "print(model.predict(pd.DataFrame({'photo': [photo]}))['age'][0])\n"
        "print(sys.modules['study'].__file__)\n"
        "print([name for name in ('torch', 'timm', 'ray', 'trainables.fitting') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(PHOTO)],
        cwd=place, env=outside(place), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    age, file, heavy = done.stdout.strip().split("\n")[-3:]
    assert float(age) == load_model(folder).predict_rows([PHOTO])[0].age
    assert "mlruns" in file
    assert heavy == "[]"


def test_mlflow_serves_it(place, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/facial-age@champion", "--env-manager", "local"]
    server = subprocess.Popen(
        [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        cwd=place, env=outside(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{port}/ping"):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.3)
        photo = base64.b64encode(PHOTO.read_bytes()).decode()
        body = json.dumps({"dataframe_records": [{"photo": photo}, {"photo": "/etc/hostname"}]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            first, second = json.load(answer)["predictions"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=60)
    expected = load_model(folder).predict_rows([PHOTO])[0]
    assert (first["age"], first["low_80"], first["high_95"]) == (expected.age, expected.low_80, expected.high_95)
    assert second["age"] is None
    assert second["reason"] == "not_a_photo"


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
