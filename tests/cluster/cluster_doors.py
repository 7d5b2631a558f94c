"""Checks a cluster's ports from another machine of its network: closed without the keys, usable with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.cluster.hosts import Host

PROGRAM = Path(__file__).with_name("doors.py")
LOOPBACK = {8265: "Ray's dashboard and job server", 5000: "MLflow", 8080: "Optuna's dashboard"}
"""Ports of the head that nobody can connect to, except through a tunnel."""
SERVED = {6379: "GCS", 10001: "Ray client", 8076: "object manager"}
TURNED_AWAY = {"401", "403", "UNAUTHENTICATED"}
WRONG_TOKEN = 64 * "0"
SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=5"


class Seen(Protocol):
    """Takes what was seen, and what was wrong (tests.cluster.three_hosts.Seen)."""

    def note(self, name: str, value: Any) -> None: ...

    def expect(self, right: bool, otherwise: str) -> None: ...


def listening(host: Host) -> dict[int, str]:
    """The program on each port on which a host listens beyond loopback."""
    found = {}
    for line in host.run("ss -H -ltnp").splitlines():
        fields = line.split()
        address, _, port = fields[3].rpartition(":")
        if not address.strip("[]").startswith(("127.", "::1", "[::1")):
            found[int(port)] = fields[5].split('"')[1] if len(fields) > 5 else "?"
    return found


def knock(at: Host, host: Host, ports: Sequence[int], token: str = "") -> dict[int, dict[str, str]]:
    """What tests/cluster/doors.py, run at `at`, finds at another host's ports."""
    answer = at.run(f"python {PROGRAM} {host.address} {','.join(map(str, sorted(ports)))} {token}")
    return {int(port): answers for port, answers in json.loads(answer.splitlines()[-1]).items()}


def without_keys(stranger: Host, hosts: Sequence[Host], seen: Seen) -> None:
    """Try all ports of all hosts from a machine without any key. hosts: the head first."""
    head = hosts[0]
    answer = stranger.run(f"{SSH} root@{head.address} true 2>&1 | tail -n 1", check=False)
    seen.note("door ssh, no key", answer.strip())
    seen.expect("Permission denied" in answer, f"ssh accepts a stranger: {answer}")
    for port, answers in knock(stranger, head, list(LOOPBACK)).items():
        seen.note(f"door {port} ({LOOPBACK[port]}), from outside", answers[""])
        seen.expect(answers[""] == "ConnectionRefusedError", f"a stranger can connect to {LOOPBACK[port]}")
    for host in hosts:
        programs = listening(host)
        programs.pop(22)
        if host is head:
            seen.expect(set(SERVED) <= set(programs), f"the head listens on {sorted(programs)} only")
        for port, answers in knock(stranger, host, list(programs)).items():
            answer = {what: status for what, status in answers.items() if what}
            statuses = sorted(set(answer.values()))
            seen.note(f"door {host.name}:{port} ({SERVED.get(port) or programs[port]}), no token", statuses)
            seen.expect(
                bool(answer) and set(statuses) <= TURNED_AWAY, f"{host.name}:{port} answers a stranger: {answer}"
            )
    for port, answers in knock(stranger, head, list(SERVED), WRONG_TOKEN).items():
        answer = {what: status for what, status in answers.items() if what}
        seen.note(f"door {port} ({SERVED[port]}), a wrong token", answer)
        seen.expect(set(answer.values()) == {"UNAUTHENTICATED"}, f"{SERVED[port]} accepts a wrong token: {answer}")
    answer = _client(stranger, head, "RAY_AUTH_MODE=disabled")
    seen.note("door of ray.init('ray://...'), no token", answer)
    seen.expect("let in" not in answer, f"Ray Client accepts a stranger: {answer}")


def _client(at: Host, head: Host, mode: str) -> str:
    """The last line of a program that connects by Ray Client; it contains "let in" if that succeeds."""
    code = f"import ray; ray.init('ray://{head.address}:10001'); print('let', 'in,', len(ray.nodes()), 'nodes')"
    answer = at.run(f'cd /tmp; {mode} timeout 120 python -c "{code}" 2>&1', check=False)
    return ([line for line in answer.splitlines() if line.strip()] or ["no word"])[-1][:160]


def with_keys(laptop: Host, head: Host, key: Path, seen: Seen) -> None:
    """Try the same ports with the key, the token and the password, and the tunnels with and without them."""
    answer = laptop.run(f"{SSH} -i {key} root@{head.address} echo in 2>/dev/null", check=False).strip()
    seen.note("door ssh, with the key", answer)
    seen.expect(answer == "in", f"ssh refuses the key: {answer}")
    token = laptop.run("cat .ray/auth_token").strip()
    for port, answers in knock(laptop, head, list(SERVED), token).items():
        answer = {what: status for what, status in answers.items() if what}
        seen.note(f"door {port} ({SERVED[port]}), with the token", answer)
        seen.expect(
            bool(answer) and "UNAUTHENTICATED" not in answer.values(), f"{SERVED[port]} refuses the token: {answer}"
        )
    password = head.run("grep password .mlflow/credentials").split("=")[1].strip()
    experiments = "127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
    bearer = f"-H 'Authorization: Bearer {token}'"
    jobs = "127.0.0.1:8265/api/jobs/"
    for what, request, right in (
        ("MLflow's page, no password", "127.0.0.1:5000/", "401"),
        ("MLflow's page, with the password", f"-u study:{password} 127.0.0.1:5000/", "200"),
        ("MLflow's runs, no password", experiments, "401"),
        ("MLflow's runs, a wrong password", f"-u study:wrong '{experiments}'", "401"),
        ("MLflow's runs, with the password", f"-u study:{password} '{experiments}'", "200"),
        ("MLflow's runs, a foreign Host header", f"-u study:{password} -H 'Host: evil.org' '{experiments}'", "403"),
        ("Ray's jobs, no token", jobs, "401"),
        ("Ray's jobs, a wrong token", f"-H 'Authorization: Bearer {WRONG_TOKEN}' {jobs}", "403"),
        ("Ray's jobs, with the token", f"{bearer} {jobs}", "200"),
        ("Optuna's dashboard, through the tunnel", "-L 127.0.0.1:8080/", "200"),
    ):
        status = laptop.run(f"curl -s -o /dev/null -w %{{http_code}} {request}", check=False).strip()
        seen.note(f"door {what}", status)
        seen.expect(status == right, f"{what}: {status} instead of {right}")
    answer = _client(laptop, head, "RAY_AUTH_MODE=token")
    seen.note("door of ray.init('ray://...'), with the token", answer)
    seen.expect("let in" in answer, f"Ray Client refuses the token: {answer}")
