"""One experiment in MLflow for each question of the study, so that a list holds only what is compared.

Runs of align, report and whatever asks no question of its own stay in the first experiment, store.EXPERIMENT, whose
description lists the others.
"""

from __future__ import annotations

from dataclasses import replace

from mlflow.entities import Experiment

from study.plain import plain, printable
from study.tracking import store
from study.tracking.outage import ask
from study.tracking.records import NOTE, Tracking
from study.tracking.views import saved, set_tag

_APART = f"{store.EXPERIMENT}: "
SYNTHETIC = " (synthetic people)"
_OVERVIEW = (
    "How old is the person in this photo, which network and which loss tell it best, and how sure can we be? "
    "Runs of align, refit and report are here; each question of the study has an experiment of its own:"
)


def question(tracking: Tracking, name: str, *, note: str = "", synthetic: bool = False) -> Tracking:
    """The connection, with its runs in the experiment of one question, which is created where it is missing.

    name: such as "sweep small". note: the experiment's description, in Markdown. synthetic: with a name of its own,
    since results on real and on synthetic people are never compared. Raises FileNotFoundError where the experiment was
    deleted, as runs.connect does.
    """
    called = _APART + printable(name)[:400] + (SYNTHETIC if synthetic else "")
    found = ask(tracking, lambda: store.experiment(tracking.client, _artifacts(tracking), tracking.place, called))
    there = replace(tracking, experiment=found)
    if note:
        describe(there, note)
    ask(tracking, lambda: _list_questions(tracking))
    return there


def describe(tracking: Tracking, note: str) -> None:
    """Set the description of the connection's experiment."""

    def set_note() -> None:
        if tracking.client.get_experiment(tracking.experiment).tags.get(NOTE) != note:
            set_tag(tracking.client, tracking.experiment, NOTE, note)

    ask(tracking, set_note)


def views_of(tracking: Tracking) -> list[tuple[str, str, dict[str, tuple[str, bool]]]]:
    """(name, id, saved views by key) of every experiment of the study, the newest first."""
    found = ask(tracking, lambda: _ours(tracking))
    newest = sorted(found, key=lambda each: int(each.experiment_id), reverse=True)
    return [(each.name, str(each.experiment_id), saved(each.tags)) for each in newest]


def experiments(tracking: Tracking) -> list[str]:
    """The ids of the study's experiments; those that are deleted are left out. To be called within `ask`."""
    return [str(each.experiment_id) for each in _ours(tracking)] or [tracking.experiment]


def _list_questions(tracking: Tracking) -> None:
    """Set the first experiment's description: the study's questions, each a link to its runs."""
    apart = sorted((each for each in _ours(tracking) if each.name != store.EXPERIMENT), key=lambda each: each.name)
    first = tracking.client.get_experiment_by_name(store.EXPERIMENT)
    if first is None:
        return
    names = [plain(each.name.removeprefix(_APART)) for each in apart]
    rows = [
        f"- [{name}](#/experiments/{each.experiment_id}/runs?workflowType=machine_learning)"
        for name, each in zip(names, apart, strict=True)
    ]
    note = "\n".join([_OVERVIEW, "", *rows])
    if first.tags.get(NOTE) != note:
        set_tag(tracking.client, str(first.experiment_id), NOTE, note)


def _ours(tracking: Tracking) -> list[Experiment]:
    found = tracking.client.search_experiments(filter_string=f"name LIKE '{store.EXPERIMENT}%'", max_results=1000)
    return [each for each in found if each.name == store.EXPERIMENT or each.name.startswith(_APART)]


def _artifacts(tracking: Tracking) -> str | None:
    """Where a new experiment's artifacts go: next to those of the first, or where MLflow would put them."""
    found = tracking.client.get_experiment_by_name(store.EXPERIMENT)
    first = found.artifact_location if found else None
    return first if first and first.startswith("file:") and first.endswith("/artifacts") else None
