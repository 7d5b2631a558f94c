"""Where a run came from: the command, the commit, and the digest of the code, as MLflow's page shows them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from trainables import code_version


def source_tags(stage: str) -> dict[str, str]:
    """MLflow's tags for a run of this stage; children have them too."""
    command = {"trial": "sweep", "fold": "lopo"}.get(stage, stage)
    tags = {
        "mlflow.source.name": f"python -m study.{command}",
        "mlflow.source.type": "LOCAL",
        "study.code": code_version(),
    }
    commit = _commit()
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


@cache
def _commit() -> str:
    """The commit of the source; "" where the study is not a checkout. study.code says whether files differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        words = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
