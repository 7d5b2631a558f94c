"""Hosts made of Linux namespaces on this machine: each with its own address, processes, /root, /tmp, /run and /dev/shm.

They share the machine's other files, and so one Python environment. Needs root and Debian's iproute2, openssh-server
and util-linux. The hosts can reach only each other.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SSHD = "/usr/sbin/sshd"
_WIRE = "study-wire"
_TOOLS = {"ip": "iproute2", SSHD: "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "unshare": "util-linux"}
"""Programs, and the Debian packages that contain them."""


@dataclass
class Host:
    """A running host. boot: the process whose end ends all of the host's; pid: this machine's id of its process 1."""

    name: str
    address: str
    boot: subprocess.Popen[bytes]
    pid: int

    @property
    def namespace(self) -> str:
        return f"study-{self.name}"

    def enter(self, command: str) -> list[str]:
        """The command line that runs a shell command in the host's home folder."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--ipc", "--"]
        start = f"export HOME=/root PATH={Path(sys.prefix) / 'bin'}:$PATH; cd; {command}"
        return [*inside, "bash", "-c", start]

    def run(self, command: str, *, check: bool = True, show: bool = False) -> str:
        """Output (both streams) of a shell command in the host, also printed if `show`. Raises RuntimeError where the
        command fails, if `check`."""
        process = subprocess.Popen(
            self.enter(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if show:
                print(f"  {self.name}| {line.rstrip()}", flush=True)
        if process.wait() and check:
            raise RuntimeError(f"at {self.name}, {command!r} ended with {process.returncode}: {''.join(lines)[-1500:]}")
        return "".join(lines)

    def python(self, code: str, *, check: bool = True) -> str:
        """Output of Python code, run in the host with this environment."""
        return self.run(f"python -c {shlex.quote(code)}", check=check)

    def take_away(self, doing: str) -> None:
        """Lose the host, as by a power cut, while one of its processes has `doing` in its title: stop that process, cut
        the network so that no connection is closed, and kill all processes."""
        while not (busy := [pid for pid in self.processes() if doing in _title(pid)]):
            time.sleep(0.05)
        os.kill(busy[0], signal.SIGSTOP)
        run("ip", "-n", _WIRE, "link", "set", self.name, "down")
        self.end()

    def come_back(self, work: Path) -> None:
        """Start the host again with its files, except those in /tmp."""
        shutil.rmtree(work / self.name / "tmp")
        run("ip", "-n", _WIRE, "link", "set", self.name, "up")
        again = _boot(self.name, self.namespace, self.address, work, serve=True)
        self.boot, self.pid = again.boot, again.pid

    def processes(self) -> list[int]:
        """This machine's ids of all its processes."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.namespace).split()]

    def end(self) -> None:
        """End all of its processes, and wait until they are gone."""
        self.boot.kill()  # unshare --kill-child: it takes process 1 with it, and that all others
        self.boot.wait()
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.05)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def why_not() -> str | None:
    """Why this machine cannot make hosts, in words; None if it can."""
    if os.geteuid() != 0:
        return "hosts made of namespaces need root"
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install)"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"this machine cannot make namespaces: {tried.stderr.strip()}"


def run(*command: str, check: bool = True) -> str:
    """The output of a command on this machine."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


@contextlib.contextmanager
def hosts(addresses: Mapping[str, str], served: tuple[str, ...], work: Path) -> Iterator[dict[str, Host]]:
    """Hosts by name, at these addresses (of one /24). Those in `served` have an sshd that accepts work/user_key.

    At the end their processes, namespaces and links are removed.
    """
    for key in ("host_key", "user_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / key))
    up: dict[str, Host] = {}
    made: list[str] = []
    try:
        run("ip", "netns", "add", _WIRE)
        made.append(_WIRE)
        run("ip", "-n", _WIRE, "link", "add", "wire", "type", "bridge")
        run("ip", "-n", _WIRE, "link", "set", "wire", "up")
        for name, address in addresses.items():
            namespace = f"study-{name}"
            run("ip", "netns", "add", namespace)
            made.append(namespace)
            _plug_in(name, namespace, address)
            up[name] = _boot(name, namespace, address, work, serve=name in served)
        for name in served:
            _wait_for_ssh(up[name])
        yield up
    finally:
        for host in up.values():
            if host.boot.poll() is None:
                host.end()
        for namespace in reversed(made):
            run("ip", "netns", "del", namespace, check=False)


def _plug_in(name: str, namespace: str, address: str) -> None:
    run("ip", "link", "add", "eth0", "netns", namespace, "type", "veth", "peer", name, "netns", _WIRE)
    run("ip", "-n", _WIRE, "link", "set", name, "master", "wire", "up")
    run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
    run("ip", "-n", namespace, "link", "set", "eth0", "up")
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    # a gateway that does not exist: without a default route Ray would use 127.0.0.1 as the host's address
    run("ip", "-n", namespace, "route", "add", "default", "via", address.rpartition(".")[0] + ".254")


def _boot(name: str, namespace: str, address: str, work: Path, *, serve: bool) -> Host:
    """Start a host with mounts of its own, and with sshd if `serve`."""
    place = work / name
    for folder in ("root", "tmp"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    base = Path(sys.base_prefix)
    start = place / "root" / ".bashrc"
    if not start.exists():
        start.write_text(f"export PATH={base / 'bin'}:$PATH\n")  # where python3.11 is found
    config = place / "sshd_config"
    config.write_text(
        f"ListenAddress {address}\nHostKey {work / 'host_key'}\nAuthorizedKeysFile {work / 'user_key.pub'}\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "UseDNS no\nMaxStartups 100\n"
    )
    lines = ["set -e", "mount --make-rprivate /"]
    for kept in {base, Path(sys.prefix)}:  # a Python in /root or /tmp must stay visible
        for top in ("/root", "/tmp"):
            if kept.is_relative_to(top):
                seen = place / top[1:] / kept.relative_to(top)
                lines += [f"mkdir -p {seen}", f"mount --bind {kept} {seen}"]
    lines += [f"mount --rbind {place / 'root'} /root", f"mount --rbind {place / 'tmp'} /tmp"]
    lines += ["mount -t tmpfs tmpfs /run", "mkdir /run/sshd", "mount -t tmpfs tmpfs /dev/shm"]
    if serve:
        lines.append(f"{SSHD} -D -e -f {config} &")
    lines.append("while true; do wait; sleep 1; done")  # process 1 must reap orphans
    unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    boot = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *unshare, "sh", "-c", "\n".join(lines)],
        stdin=subprocess.DEVNULL,
        stdout=(place / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    for _ in range(400):
        if children := run("ps", "-o", "pid=", "--ppid", str(boot.pid), check=False).split():
            return Host(name, address, boot, int(children[0]))
        time.sleep(0.05)
    boot.kill()
    raise RuntimeError(f"{name} did not start: {(place / 'log').read_text()[-600:]}")


def _wait_for_ssh(host: Host) -> None:
    for _ in range(100):
        if "SSH" in host.run(f"timeout 2 bash -c 'head -c 3 < /dev/tcp/{host.address}/22'", check=False):
            return
        time.sleep(0.2)
    raise RuntimeError(f"sshd of {host.name} does not answer")
