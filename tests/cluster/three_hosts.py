"""Tests cluster-onprem.yaml on one machine: three hosts, a laptop and a stranger, made of Linux namespaces.

    sudo .venv/bin/python -m tests.cluster.three_hosts

From the laptop: `ray up` over SSH, the pages through `ray attach`, align, sweep and LOPO of the synthetic people as
jobs, and `ray down`. In the middle of LOPO a worker's host is lost. From the stranger, a machine in the hosts' network
without any key, every port that a host listens on is tried. Prints what it sees; status 1 where something is wrong.
Takes some ten minutes on one core. Needs root (and what tests/cluster/hosts.py says) and a Python environment with
'.[dlib,lite,cluster]'. tests/cluster/onprem.py changes the cluster file for this.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tests.cluster import cluster_doors
from tests.cluster.hosts import Host, hosts, why_not
from tests.cluster.onprem import REPO, cluster_file

HEAD, LAPTOP, STRANGER, LOST = "head", "laptop", "stranger", "worker2"
ADDRESSES = {HEAD: "10.213.7.1", "worker1": "10.213.7.2", LOST: "10.213.7.3"}
OUTSIDE = {LAPTOP: "10.213.7.8", STRANGER: "10.213.7.9"}
QUIET = "--log-style pretty --log-color false"
TOKEN = "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0"
PATIENCE = 150
"""Seconds within which the training of a lost host must be given up: 80 by the cluster file, more on a busy core."""
STAGES = {
    "align": "people",
    "sweep": "--space tour --name tour --px 32 --epochs 1 --trials 2 --blocks 2 --finalists 0",
    "lopo": "--best --sweep tour",
}
"""The study's commands. No pretraining: its workers need a folder that all hosts share."""


@dataclass
class Seen:
    """What a run saw: seconds and counts by name, and what was wrong."""

    values: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, name: str, value: Any) -> None:
        self.values[name] = value
        print(f"{name}: {value}", flush=True)

    def expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)
            print(f"WRONG: {otherwise}", flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.note(f"{name}, seconds", round(time.monotonic() - began))


def lacking() -> str | None:
    """What this machine or environment lacks for the run, in words; None if nothing."""
    packages = ("aiohttp_cors", "opencensus", "grpc", "flask_wtf", "optuna_dashboard")  # '.[cluster]', as imported
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        return f"not in this Python environment: {', '.join(missing)} (pip install -c constraints.txt '.[cluster]')"
    return why_not()


def nodes(head: Host) -> dict[str, str]:
    """The state of each Ray node by address, as the head lists it."""
    output = head.run(". ~/.age-study.sh; ray list nodes --format json 2>/dev/null", check=False)
    if "[" not in output:
        return {}
    listed = json.loads(output[output.index("[") : output.rindex("]") + 1])
    states: dict[str, str] = {}
    for node in listed:  # a host that came back is a second node at its address
        if states.get(node["node_ip"]) != "ALIVE":
            states[node["node_ip"]] = node["state"]
    return states


def wait_for_nodes(head: Host, seen: Seen, *, seconds: float) -> None:
    """Wait until all hosts are live nodes of Ray."""
    until, everyone = time.monotonic() + seconds, set(ADDRESSES.values())
    there: dict[str, str] = {}
    while time.monotonic() < until and {ip for ip, state in there.items() if state == "ALIVE"} != everyone:
        time.sleep(3)
        there = nodes(head)
    seen.note("nodes", there)
    if {ip for ip, state in there.items() if state == "ALIVE"} != everyone:
        print(head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor.*", check=False))
        seen.expect(False, f"of {len(ADDRESSES)} hosts have joined {there}")


@contextmanager
def attached(laptop: Host, file: Path) -> Iterator[None]:
    """Keep the tunnels of docs/cluster.md open."""
    ports = "-p 8265 -p 5000 -p 8080"
    shell = subprocess.Popen(
        laptop.enter(f"{TOKEN}; ray attach {file} {ports}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 90
        while "200" not in laptop.run("curl -s -o /dev/null -w %{http_code} 127.0.0.1:5000/health", check=False):
            assert time.monotonic() < until, "ray attach opened no tunnel to MLflow"
            time.sleep(1)
        yield
    finally:
        shell.kill()
        shell.wait()


def job(stage: str) -> str:
    """The laptop's command for a stage, as docs/cluster.md has it."""
    return f"{TOKEN} RAY_ADDRESS=http://127.0.0.1:8265; ray job submit -- python -m study.{stage} {STAGES[stage]}"


def folds(head: Host) -> list[float]:
    """The times at which the folds' files were written, sorted, in seconds of this machine's clock."""
    output = head.run("stat -c %.2Y age-study/runs/synthetic/lopo/*/folds/*.parquet 2>/dev/null", check=False)
    return sorted(float(line.replace(",", ".")) for line in output.split())


def lopo_with_a_loss(up: dict[str, Host], seen: Seen, *, after: int) -> float:
    """Run LOPO as a job; after `after` folds a host is lost in the middle of a training. Returns when."""
    head, laptop = up[HEAD], up[LAPTOP]
    running = subprocess.Popen(
        laptop.enter(job("lopo")), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while len(folds(head)) < after and running.poll() is None:
        time.sleep(0.5)
    up[LOST].take_away("ray::run_fold")
    gone = time.time()
    while running.poll() is None and nodes(head).get(ADDRESSES[LOST]) != "DEAD":
        time.sleep(1)
    seen.note("seconds until Ray counted the lost host as dead, at most", round(time.time() - gone))
    output, _ = running.communicate()
    print("".join(f"  lopo| {line}\n" for line in output.splitlines()[-12:]), flush=True)
    written = folds(head)
    before = sum(at < gone for at in written)
    gaps = [later - sooner for sooner, later in pairwise(written)]
    seen.note("folds before the loss", before)
    seen.note("seconds between folds: median before, median after, longest after", [
        round(number, 1) for number in (median(gaps[: before - 1]), median(gaps[before:]), max(gaps[before:]))
    ])  # fmt: skip
    seen.note("seconds from the loss to the last fold", round(written[-1] - gone))
    seen.expect(running.returncode == 0, f"the LOPO job ended with {running.returncode}")
    return gone


def check_study(head: Host, seen: Seen, *, gone: float) -> None:
    """Check that each person is once in the predictions and once in MLflow, that folds ran on all hosts, and that the
    lost host's training was run again."""
    env = f". ~/.age-study.sh; export RAY_ADDRESS={head.address}:6379; cd age-study"
    output = head.run(f"{env}; python {REPO}/tests/cluster/held_by_head.py")
    held = json.loads(output.splitlines()[-1])
    for name, value in held.items():
        seen.note(f"held by the head, {name}", value)
    people, photos = held["faces"]
    seen.expect(held["predicted"] == [people, photos, photos], f"{held['predicted']} predicted of {held['faces']}")
    seen.expect(held["runs"] == [people, people, ["FINISHED"]], f"MLflow holds {held['runs']} of {people} folds")
    seen.expect({ip for ip, *_ in held["ran"]} >= set(ADDRESSES.values()), "folds did not run on all hosts")
    waited = [round(at - gone) for at in held["given_up"]]
    seen.note("seconds from the loss until its training was given up, to be run elsewhere", waited)
    seen.expect(len(waited) == 1 and waited[0] < PATIENCE, f"{len(waited)} trainings were given up, after {waited} s")


def story(work: Path, seen: Seen, *, after: int, patience: float) -> None:
    """Everything from `ray up` to `ray down`; what is wrong is added to `seen`."""
    with hosts(ADDRESSES | OUTSIDE, tuple(ADDRESSES), work) as up:
        head, laptop = up[HEAD], up[LAPTOP]
        file = cluster_file(work, ADDRESSES[HEAD], [ADDRESSES[name] for name in ADDRESSES if name != HEAD])
        laptop.run("ray get-auth-token --generate > /dev/null 2>&1")
        with seen.timed("ray up"):
            laptop.run(f"{TOKEN}; cd {REPO} && ray up --yes {QUIET} {file}", show=True)
        with seen.timed("until all hosts have joined, after that"):
            wait_for_nodes(head, seen, seconds=patience)
        with attached(laptop, file):
            for stage in ("align", "sweep"):
                with seen.timed(stage):
                    output = laptop.run(job(stage), check=False)
                print("".join(f"  {stage}| {line}\n" for line in output.splitlines()[-8:]), flush=True)
                seen.expect("succeeded" in output, f"the job {stage} did not succeed")
            head.run(
                ". ~/.age-study.sh; cd age-study; setsid nohup optuna-dashboard --host 127.0.0.1 --port 8080 "
                "sqlite:///runs/synthetic/sweeps/tour/optuna.db > ~/optuna.log 2>&1 &"
            )
            with seen.timed("doors"):
                cluster_doors.without_keys(up[STRANGER], [up[name] for name in ADDRESSES], seen)
                cluster_doors.with_keys(laptop, head, work / "user_key", seen)
            with seen.timed("lopo"):
                gone = lopo_with_a_loss(up, seen, after=after)
            check_study(head, seen, gone=gone)
            up[LOST].come_back(work)
            with seen.timed("until the lost host has joined again, once it is back"):
                wait_for_nodes(head, seen, seconds=patience)
        laptop.run(f"{TOKEN}; ray exec {QUIET} {file} 'cd ~/age-study && python -m study.report'")
        laptop.run(f"{TOKEN}; ray rsync-down {QUIET} {file} age-study/runs/ brought-home/")
        home = laptop.run("ls brought-home brought-home/lopo/* brought-home/report").split()
        seen.expect({"people", "sweeps", "predictions.parquet", "report.md"} <= set(home), f"brought home: {home}")
        with seen.timed("ray down"):
            laptop.run(f"{TOKEN}; ray exec {QUIET} {file} 'kill -- -$(cat ~/.mlflow/server.pid)'")
            laptop.run(f"{TOKEN}; cd {REPO} && ray down --yes {QUIET} {file}", show=True)
        for name in ADDRESSES:
            began, left = time.monotonic(), "?"
            while left and time.monotonic() < began + 120:
                left = up[name].run(
                    "ps -eo args= | grep -E '[r]aylet|[g]cs_server|[m]lflow' | cut -c 1-60", check=False
                )
                time.sleep(1)
            seen.note(f"{name} is at rest after ray down, seconds", round(time.monotonic() - began))
            seen.expect(not left, f"after ray down {name} still runs {left}")


def three_hosts(*, after: int = 20, patience: float = 600, keep: bool = False) -> Seen:
    """Run the story in a temporary folder. after: folds done when a host is lost; patience: seconds to join."""
    work, seen = Path(tempfile.mkdtemp(prefix="three-hosts-", dir="/var/tmp")), Seen()
    try:
        story(work, seen, after=after, patience=patience)
    finally:
        if keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="keep the hosts' files")
    parser.add_argument("--after", type=int, default=20, help="folds that are done when a host is lost")
    parser.add_argument("--patience", type=float, default=600, help="seconds in which the workers must join")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # ends the hosts too
    if reason := lacking():
        print(f"three_hosts: error: {reason}", file=sys.stderr)
        return 1
    seen = three_hosts(after=options.after, patience=options.patience, keep=options.keep)
    for line in seen.wrong:
        print(f"WRONG: {line}")
    print("three hosts: all as it should be" if not seen.wrong else f"three hosts: {len(seen.wrong)} wrong")
    return 1 if seen.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
