"""MLflow's own server in this process: its page and its API, without what the study does not use."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.tracking.records import Tracking
from study.tracking.sqlite import sqlite_uri

USER = "study"
_SHUT = ("/mlflow/assistant", "/gateway/", "/api/3.0/jobs", "/ajax-api/3.0/jobs")
"""Parts of paths that answer 404: MLflow's assistant runs programs on this machine, the gateway calls paid services."""


@dataclass(frozen=True)
class Door:
    """Where the page is served, and the password that it asks for ("": none)."""

    host: str
    port: int
    password: str = ""

    @property
    def address(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}"


def free_port(host: str, port: int | None, *, preferred: int = 5000) -> int:
    """The port to serve on. None: the preferred one, or where that is taken any free one. Raises OSError if taken."""
    wanted = [preferred, 0] if port is None else [port]
    for number in wanted:
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, number))
                return int(probe.getsockname()[1])
        except OSError as error:
            if number == wanted[-1]:
                raise OSError(
                    f"{host} port {number} cannot be used ({error.strerror}): choose another with --port, or leave "
                    "--port out"
                ) from error
    raise AssertionError


def serve(tracking: Tracking, door: Door) -> None:
    """Serve until SIGINT or SIGTERM."""
    import uvicorn  # comes with MLflow, which takes seconds to import it

    with tempfile.TemporaryDirectory() as private:
        os.environ.update(_settings(tracking, door))
        app = _app(door, Path(private))
        uvicorn.run(app, host=door.host, port=door.port, log_level="warning")


def _settings(tracking: Tracking, door: Door) -> dict[str, str]:
    """What MLflow's server reads from the environment on import, as `mlflow server` sets it."""
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR

    names = {door.host, "localhost", "127.0.0.1"} if door.host != "0.0.0.0" else {"*"}
    return {
        BACKEND_STORE_URI_ENV_VAR: tracking.uri,
        REGISTRY_STORE_URI_ENV_VAR: tracking.uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(n if n == "*" else f"{n}:{door.port}" for n in sorted(names)),
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def _app(door: Door, private: Path) -> Any:
    """MLflow's app, behind a password where the door has one."""
    if not door.password:
        from mlflow.server.fastapi_app import app

        return _shut(app, _quiet_page())
    users = private / "users.ini"
    users.touch(mode=0o600)
    users.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = {sqlite_uri(private / 'users.db')}\n"
        f"admin_username = {USER}\nadmin_password = {door.password.replace('%', '%%')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(users)
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(24)
    try:
        from mlflow.server.auth import create_app
    except ImportError as error:
        raise ImportError(
            f"a password needs a package that is not installed ({error}): pip install flask-wtf"
        ) from error
    return _shut(create_app())


def _quiet_page() -> bytes:
    """MLflow's page, with the assistant's panel closed: on loopback it would open by itself in a fresh browser."""
    import mlflow.server

    page = (Path(mlflow.server.__file__).parent / "js" / "build" / "index.html").read_text()
    seen = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
    return page.replace("<head>", f"<head><script>{seen}</script>", 1).encode()


def _shut(app: Any, page: bytes = b"") -> Any:
    """The app, with 404 for the paths of _SHUT. page: what is answered in place of its first page, if anything."""

    async def filtered(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and any(part in scope["path"] for part in _SHUT):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"switched off by python -m study.ui"})
            return
        if scope["type"] == "http" and scope["path"] == "/" and page:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": page})
            return
        await app(scope, receive, send)

    return filtered
