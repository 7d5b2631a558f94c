"""Prints as JSON what a finished study left on a cluster's head: python tests/cluster/held_by_head.py, in ~/age-study.

faces: people and photos of the table. predicted: people, photos and rows of the LOPO result. runs: fold runs in MLflow,
their people, and their states. ran: trainings by (address, state), as Ray lists them. given_up: when the driver gave up
those that failed, in seconds since 1970.
"""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path

import pandas as pd
import ray
from ray.util.state import list_nodes, list_tasks

from study.tracking import runs as tracking
from study.tracking.questions import experiments


def held() -> dict[str, object]:
    """The values that the module's docstring describes. Needs RAY_ADDRESS."""
    faces = pd.concat(
        pd.read_parquet(file, columns=["person", "photo"]) for file in Path("runs/synthetic/people/faces").iterdir()
    )
    [result] = Path("runs/synthetic/lopo").glob("*/predictions.parquet")
    predicted = pd.read_parquet(result, columns=["person", "photo"])
    store = tracking.connect()
    runs = store.client.search_runs(experiments(store), "tags.`study.stage` = 'fold'", max_results=1000)
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
    nodes = {node.node_id: node.node_ip for node in list_nodes()}
    tasks = list_tasks(filters=[("name", "=", "run_fold")], limit=1000, detail=True)
    ran = collections.Counter((nodes.get(task.node_id, "nowhere"), task.state) for task in tasks)
    return {
        "faces": [faces.person.nunique(), len(faces)],
        "predicted": [predicted.person.nunique(), predicted.photo.nunique(), len(predicted)],
        "runs": [
            len(runs),
            len({run.data.params["person"] for run in runs}),
            sorted({run.info.status for run in runs}),
        ],
        "ran": [[*what, count] for what, count in sorted(ran.items())],
        "given_up": [task.end_time_ms / 1000 for task in tasks if task.state == "FAILED"],
    }


if __name__ == "__main__":
    print(json.dumps(held()))
