"""PostgreSQL and the MLflow server, as on a cluster's head, for tests that kill and restart them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres, or None: Debian keeps them out of PATH."""
    there = shutil.which("initdb")
    places = [Path(there).resolve().parent] if there else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


@dataclass
class Postgres:
    """PostgreSQL with its data and Unix socket in a folder. Started by root, it runs as the user postgres or nobody."""

    folder: Path
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        """For SQLAlchemy, with the driver's name, since its default depends on the version."""
        return f"postgresql+psycopg2://study@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, creating its data if needed, and wait until it answers."""
        programs = postgres_programs()
        assert programs is not None, "PostgreSQL is not installed"
        data, user = self.folder / "data", _unprivileged()
        if user:
            shutil.chown(self.folder, user)
        ours = {"user": user, "extra_groups": []} if user else {}
        if not data.exists():
            make = [programs / "initdb", "--pgdata", data, "--username", "study", "--auth", "trust", "--no-sync"]
            subprocess.run([*map(str, make)], check=True, capture_output=True, cwd=self.folder, **ours)
        # without fsync: that protects against a power failure, not against a killed process
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "shared_buffers=16MB"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *options],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True, **ours,
            )  # fmt: skip
        ready = [str(programs / "pg_isready"), "--quiet", "--host", str(self.folder)]
        until = time.monotonic() + 60
        while subprocess.run(ready).returncode != 0:
            assert time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to it and to its processes for connections."""
        assert self.process is not None
        pids = [self.process.pid, *_children(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in pids[1:]):
            time.sleep(0.05)


@dataclass
class Mlflow:
    """The MLflow server that cluster/tracking.sh starts, with a home folder of its own."""

    folder: Path
    database: str
    port: int

    @property
    def uri(self) -> str:
        """The value for MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, workers: int = 2) -> None:
        """Start it and wait until it answers."""
        here = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**here, "HOME": str(self.folder), "PATH": path, "MLFLOW_WORKERS": str(workers)}
        script = ["sh", str(ROOT / "cluster" / "tracking.sh"), self.database, str(self.folder / "artifacts")]
        done = subprocess.run([*script, str(self.port)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + (self.folder / ".mlflow" / "server.log").read_text()[-3000:]

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        leader = int((self.folder / ".mlflow" / "server.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
        while _accepts(self.port):
            time.sleep(0.05)

    def key(self) -> dict[str, str]:
        """The environment of a client with the password."""
        lines = (self.folder / ".mlflow" / "credentials").read_text().splitlines()[1:]
        login = dict(line.split(" = ") for line in lines)
        return {"MLFLOW_TRACKING_URI": self.uri, **{name.upper(): value for name, value in login.items()}}


@contextmanager
def servers(*, workers: int = 2) -> Iterator[tuple[Postgres, Mlflow]]:
    """Both servers, running; at the end they are killed and removed."""
    with tempfile.TemporaryDirectory(prefix="pg") as database, tempfile.TemporaryDirectory() as home:
        postgres = Postgres(Path(database))
        mlflow = Mlflow(Path(home), postgres.uri, _free_port())
        try:
            postgres.start()
            mlflow.start(workers=workers)
            yield postgres, mlflow
        finally:
            if (mlflow.folder / ".mlflow" / "server.pid").exists():
                mlflow.kill()
            if postgres.process is not None:
                postgres.kill()


def _unprivileged() -> str | None:
    """A user for PostgreSQL, which refuses to run as root; None where this process is not root."""
    if os.geteuid() != 0:
        return None
    import pwd

    return "postgres" if any(user.pw_name == "postgres" for user in pwd.getpwall()) else "nobody"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as knock:
        knock.settimeout(1)
        return knock.connect_ex(("127.0.0.1", port)) == 0
