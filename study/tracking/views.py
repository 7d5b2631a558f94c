"""Saved views of MLflow's page: a filter, an order, columns and charts, kept as a tag of an experiment.

MLflow does not document the format; tests/ui reads such views off the page in a browser, and fails when it changes.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from study.tracking.outage import ask
from study.tracking.records import Tracking

_TAG = "mlflow.sharedViewState."
_SECTION = "charts"


@dataclass(frozen=True)
class View:
    """A saved view.

    key: its last part in a link. columns: such as "metrics.mae", "params.backbone", "tags.study.state".
    where: MLflow's filter of runs. order: the column to sort by. charts: of the functions below; a view with charts
    opens with them, else as a list.
    """

    key: str
    name: str
    where: str
    order: str
    columns: Sequence[str]
    ascending: bool = True
    charts: Sequence[Mapping[str, Any]] = ()


def parallel(title: str, *, params: Sequence[str], metrics: Sequence[str], runs: int = 100) -> dict[str, Any]:
    """Parallel coordinates. The line's colour is the last metric's value."""
    return _chart("PARALLEL", title, runs, selectedParams=list(params), selectedMetrics=list(metrics))


def scatter(title: str, *, x: str, y: str, runs: int = 100) -> dict[str, Any]:
    """One point a run; x and y are columns, such as "params.lambda2"."""
    return _chart("SCATTER", title, runs, xaxis=_axis(x), yaxis=_axis(y))


def bars(title: str, *, metric: str, runs: int = 20) -> dict[str, Any]:
    """One bar a run."""
    return _chart("BAR", title, runs, metricKey=metric)


def lines(title: str, *, metric: str, runs: int = 5) -> dict[str, Any]:
    """One curve a run, over the steps at which the metric was logged."""
    return _chart("LINE", title, runs, metricKey=metric, selectedMetricKeys=[metric], xAxisKey="step", lineSmoothness=0)


def save(tracking: Tracking, views: Sequence[View]) -> None:
    """Write the views as tags of the connection's experiment, where they are not there already."""

    def write() -> None:
        client = tracking.client
        there = client.get_experiment(tracking.experiment).tags
        for view in views:
            if state_of(there.get(_TAG + view.key, "")) != _state(view):
                _write(client, tracking.experiment, view)

    ask(tracking, write)


def saved(tags: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """An experiment's views by their key: their name, and whether they open with charts. Lists come first."""
    found = {}
    for tag, value in tags.items():
        if tag.startswith(_TAG) and (state := state_of(value)):
            name = str(json.loads(value).get("name", tag))
            found[tag.removeprefix(_TAG)] = (name, state.get("compareRunsMode") == "CHART")
    return dict(sorted(found.items(), key=lambda view: (view[1][1], view[1][0])))


def state_of(value: str) -> dict[str, Any]:
    """What a tag's value says; empty where it is no saved view."""
    try:
        text = json.loads(value)["state"].removeprefix("deflate;")
        return dict(json.loads(zlib.decompress(base64.b64decode(text))))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return {}


def _write(client: MlflowClient, experiment: str, view: View) -> None:
    now = int(time.time() * 1000)
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(_state(view)).encode())).decode()
    record = {"name": view.name, "createdAt": now, "updatedAt": now, "state": state}
    set_tag(client, experiment, _TAG + view.key, json.dumps(record))


def set_tag(client: MlflowClient, experiment: str, key: str, value: str) -> None:
    """Set a tag of an experiment, also where another command creates the same one at this moment.

    MLflow's own call looks for the tag and then inserts it; of two that found none the second fails on the database's
    unique key. Asked again it finds the tag.
    """
    for left in (2, 1, 0):
        try:
            return client.set_experiment_tag(experiment, key, value)
        except MlflowException as error:
            if not left or not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise


def _state(view: View) -> dict[str, Any]:
    return {
        "searchFilter": view.where,
        "orderByKey": _quoted(view.order),
        "orderByAsc": view.ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [_quoted(column) for column in view.columns],
        "compareRunsMode": "CHART" if view.charts else "TABLE",
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # else sections stand by their names, and the view's own is not the first
        "groupBy": None,
        "compareRunCharts": [
            {**chart, "uuid": f"{view.key}-{number}"} for number, chart in enumerate(view.charts, start=1)
        ],
        "compareRunSections": [{"uuid": _SECTION, "name": view.name, "display": True, "isReordered": True}],
    }


def _quoted(column: str) -> str:
    """A column as MLflow writes it: metrics.`mae`. Attributes stand without quotation marks."""
    kind, _, name = column.partition(".")
    return f"{kind}.`{name}`" if name and kind in ("metrics", "params", "tags") else column


def _axis(column: str) -> dict[str, str]:
    kind, _, name = column.partition(".")
    return {"type": {"params": "PARAM", "metrics": "METRIC"}[kind], "key": name}


def _chart(kind: str, title: str, runs: int, **more: Any) -> dict[str, Any]:
    common = {"type": kind, "displayName": title, "runsCountToCompare": runs, "metricSectionId": _SECTION}
    return {**common, "deleted": False, "isGenerated": False, **more}


def key_of(text: str) -> str:
    """A view's key made from a text: letters, digits and "-"."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:60] or "view"
