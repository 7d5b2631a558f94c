"""Serve MLflow's page with this study's runs, and print the link to every saved view.

One process, on this machine alone, without telemetry, assistant or job runner. It works on a copied folder too. Another
--host needs a password (STUDY_UI_PASSWORD, or typed when asked), with the user name "study".
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from study.tracking import runs as tracking
from study.tracking import store
from study.tracking.look import HOST, forget_serving, link, note_serving, serving_at
from study.tracking.questions import views_of
from study.tracking.server import Door, free_port, serve
from study.ui.options import Ui

USER = "study"
LEAST = 12
"""Characters of a password: MLflow asks for as many."""


def ui(options: Ui) -> int:
    """Serve the page until it is interrupted; returns the exit status."""
    if store.is_server(store.given()):
        raise ValueError(
            f"the runs are on the server {store.place_of(store.given()).shown}, which has this page: open it there, or "
            "unset MLFLOW_TRACKING_URI to see those of this folder"
        )
    home = home_of(options.folder)
    door = Door(options.host, free_port(options.host, options.port), password_for(options.host))
    track = tracking.connect(home=home)
    print("\n".join(links(track, door.address)), flush=True)
    if options.open:
        webbrowser.open(first_link(track, door.address))
    noted = not serving_at(home)
    if noted:
        note_serving(home, door.address)
    try:
        serve(track, door)
    finally:
        if noted:
            forget_serving(home)
    return 0


def home_of(folder: Path) -> Path:
    """The folder's mlruns. Raises FileNotFoundError where it has no runs."""
    home = folder if (folder / "mlflow.db").is_file() else folder / "mlruns"
    if not store.given() and not (home / "mlflow.db").is_file():
        raise FileNotFoundError(
            f"no runs in {home}: expected mlflow.db there; name the folder in which the commands were typed, as in "
            "python -m study.ui FOLDER"
        )
    return home


def password_for(host: str) -> str:
    """The password that a host needs: "" on loopback. Raises ValueError where there is none, or too short a one."""
    if is_loopback(host):
        return ""
    password = os.environ.get("STUDY_UI_PASSWORD", "")
    if not password and sys.stdin.isatty():
        password = getpass.getpass(f"A password for the page at {host} (user {USER}): ")
    if len(password) < LEAST:
        raise ValueError(
            f"--host {host} lets others see and change the runs: give a password of at least {LEAST} characters in "
            f"STUDY_UI_PASSWORD, or serve on {HOST} and reach it by ssh -L"
        )
    return password


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def links(track: tracking.Tracking, address: str) -> list[str]:
    """The lines that are printed: the address, and each experiment's views with their links."""
    lines = [f"MLflow's page of {track.place.shown}: {address}    (Ctrl-C ends it)"]
    for name, number, views in views_of(track):
        lines += ["", name, *_lines(address, number, views)]
    return lines


def _lines(address: str, number: str, views: Mapping[str, tuple[str, bool]]) -> list[str]:
    return [f"  {name}\n    {link(address, number, key, charts=charts)}" for key, (name, charts) in views.items()]


def first_link(track: tracking.Tracking, address: str) -> str:
    """The link to the first saved view; to the study's first experiment where there is none."""
    for _, number, views in views_of(track):
        for key, (_, charts) in views.items():
            return link(address, number, key, charts=charts)
    return link(address, track.experiment)
