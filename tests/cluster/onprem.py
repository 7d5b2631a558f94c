"""cluster-onprem.yaml for hosts that share one machine and its Python environment.

It changes addresses, user and key; `pip install` (all hosts use the environment that runs this); and each host's CPUs,
object store and time-outs at the start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]


def cluster_file(work: Path, head: str, workers: Sequence[str]) -> Path:
    """The changed file for hosts at these addresses."""
    config: dict[str, Any] = yaml.safe_load((REPO / "cluster-onprem.yaml").read_text())
    config["provider"] |= {"head_ip": head, "worker_ips": list(workers)}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(work / "user_key")}
    install = config["setup_commands"].pop()
    assert "pip install" in install, install
    config["setup_commands"].append(f"sh {_borrow(work)}")
    small = "ray start --num-cpus=1 --object-store-memory=100000000"
    timeouts = "export RAY_raylet_start_wait_time_s=300 RAY_gcs_rpc_server_connect_timeout_s=120 &&"
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[commands] = [
            f"{timeouts} {line.replace('ray start', small)}" if "ray start" in line else line
            for line in config[commands]
        ]
    file = work / "cluster.yaml"
    file.write_text(yaml.safe_dump(config, width=1000))
    return file


def _borrow(work: Path) -> Path:
    """A script that adds the packages of this environment to a host's own, empty one, and the code of ~/age-study like
    `pip install -e .`: no other copy of the code is on the host's path."""
    places = [path for path in sys.path if path.endswith("site-packages")]
    script = work / "borrow.sh"
    script.write_text(
        "set -eu\ncd ~/age-study/.venv\nplaces=$(echo lib/python3.*/site-packages)\n"
        f"printf '%s\\n' {' '.join(places)} \"$HOME/age-study\" > $places/borrowed.pth\n"
        "for name in ray mlflow optuna-dashboard; do\n"
        f'  sed "1s|.*|#!$PWD/bin/python|" {Path(sys.prefix) / "bin"}/$name > bin/$name && chmod +x bin/$name\n'
        "done\n"
    )
    return script
