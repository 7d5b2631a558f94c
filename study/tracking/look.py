"""Links into MLflow's page, and the server that answers them: a tracking server, or `python -m study.ui`."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

from study.files.storage import write_json
from study.tracking import store
from study.tracking.records import Tracking

HOST, PORT = "127.0.0.1", 5000
"""Where `python -m study.ui` serves if nothing else is said and the port is free."""

UI = "python -m study.ui"
_NOTE = ".ui.json"


def how_to_look(tracking: Tracking, view: str = "", *, home: Path = Path("mlruns")) -> str:
    """The link to a saved view of the connection's experiment (or to its runs), and what must run for it to open."""
    uri = store.given()
    if store.is_server(uri):
        return link(store.server_uri(uri).rstrip("/"), tracking.experiment, view)
    serving = serving_at(home)
    there = link(serving or f"http://{HOST}:{PORT}", tracking.experiment, view)
    return there if serving else f"{there}    (first: {UI})"


def is_here(tracking: Tracking) -> bool:
    """Whether the runs' files stay on this machine: pictures of faces are logged nowhere else."""
    if not store.is_server(tracking.uri):
        return tracking.uri.startswith("sqlite")
    return urlsplit(tracking.uri).hostname in ("localhost", "127.0.0.1", "::1")


def link(address: str, experiment: str, view: str = "", *, charts: bool = False) -> str:
    """The link to an experiment's runs, through a saved view if one is named. charts: it opens with its charts."""
    shown = f"&compareRunsMode={'CHART' if charts else 'TABLE'}&viewStateShareKey={quote(view)}" if view else ""
    return f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning{shown}"


def artifact(experiment: str, run_id: str, name: str) -> str:
    """The link to an artifact, as the page's own descriptions hold it: whatever the server's address."""
    return f"#/experiments/{experiment}/runs/{run_id}/artifacts/{quote(name)}"


def note_serving(home: Path, address: str) -> None:
    """Keep the address at which this folder's runs are served, for the links that commands print."""
    write_json(home / _NOTE, {"address": address})


def forget_serving(home: Path) -> None:
    """To be called when the server has ended."""
    (home / _NOTE).unlink(missing_ok=True)


def serving_at(home: Path) -> str:
    """The address that was noted, if somebody still answers there; "" else."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        address = str(json.loads((home / _NOTE).read_text())["address"])
        parts = urlsplit(address)
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=0.3).close()
        return address
    return ""
