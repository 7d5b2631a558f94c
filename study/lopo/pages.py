"""What a LOPO writes to MLflow's page for people: its experiments, names, description and saved views."""

from __future__ import annotations

from typing import Any

from study.artifacts.about import About
from study.artifacts.brands import MEANING, branded
from study.cli.describe import run_name
from study.cli.options import is_synthetic
from study.statistics.summary import Summary
from study.tracking import runs as tracking
from study.tracking.questions import question
from study.tracking.views import View, bars, key_of, save
from trainables.config import TrialConfig
from trainables.faces.table import Faces

RESULTS, FOLDS = "LOPO results", "LOPO folds"


def open_questions(store: tracking.Tracking, faces: Faces) -> tuple[tracking.Tracking, tracking.Tracking]:
    """The connections to the experiment of all results, and to that of their folds."""
    synthetic = is_synthetic(faces.datasets)
    whom = "synthetic people: they mean nothing about real faces" if synthetic else "people"
    results = (
        "**How large is the error for a person whom the network never saw?** A run is a whole leave-one-person-out "
        f"result on {whom}. `mae` is the mean over people, `mae_low` to `mae_high` its 95 % interval over people. "
        "Compare only results on the same dataset (same digest)."
    )
    folds = (
        "One training for each left-out person (and seed) of the results in the experiment "
        f"*{RESULTS}*; `mae` is the error for that person. The config is in its result's `trial.json`."
    )
    return (
        question(store, RESULTS, note=results, synthetic=synthetic),
        question(store, FOLDS, note=folds, synthetic=synthetic),
    )


def result_name(about: About, mae: float | None = None) -> str:
    """A result's name: what it is, and its MAE once it is known."""
    configs = [TrialConfig.from_json(config) for config in about.configs]
    score = [f"{mae:.2f}"] if mae is not None else []
    if about.members:
        return branded(" · ".join([about.name, *score]), about.brand)
    one = about.name in about.backbones
    return branded(run_name(configs, *score, first="" if one else about.name), about.brand)


def dataset_of(about: About) -> dict[str, Any]:
    """The faces of a result, for MLflow."""
    return tracking.dataset(
        about.dataset, digest=about.faces_digest, source=about.faces, faces=about.photos, people=about.people,
        context="leave one person out",
    )  # fmt: skip


def save_views(results: tracking.Tracking, folds: tracking.Tracking, parent: str, about: About) -> tuple[str, str]:
    """Save the views of all results, and of this one's folds; returns the keys of both, the second "" where it
    has no folds of its own."""
    columns = [f"metrics.{name}" for name in ("mae", "mae_low", "mae_high", "cs_5", "rmse")]
    columns += [f"params.{name}" for name in ("backbone", "lambda1", "lambda2", "px", "start", "faces")]
    complete = "tags.`study.stage` = 'lopo' and tags.`study.state` = 'complete'"
    everything = View(
        "results", "LOPO results with 95 % intervals", complete, "metrics.mae", columns,
    )  # fmt: skip
    compared = View(
        "intervals", "LOPO results side by side: MAE, and both ends of its interval", complete, "metrics.mae", columns,
        charts=[
            bars("MAE (years), mean over people", metric="mae"),
            bars("Lower end of the 95 % interval", metric="mae_low"),
            bars("Upper end of the 95 % interval", metric="mae_high"),
            bars("CS(5): share of photos within 5 years", metric="cs_5"),
        ],
    )  # fmt: skip
    worst = View(
        f"people-{key_of(about.key)}", f"Worst person first: {result_name(about)}",
        f"tags.`study.stage` = 'fold' and tags.`mlflow.parentRunId` = '{parent}'", "metrics.mae",
        ["metrics.mae", "params.person", "params.faces", "params.seed", "params.backbone", "metrics.seconds"],
        ascending=False,
    )  # fmt: skip
    save(results, [everything, compared])
    if about.members:  # its folds are those of the results that it is made from
        return everything.key, ""
    save(folds, [worst])
    return everything.key, worst.key


def outcome(about: About, summary: Summary, guess: Summary, *, people: str, photos: str) -> str:
    """The description of a result's run, in Markdown. people, photos: links to its folds and to its gallery, if any."""
    looks = [f"[its folds, worst person first]({people})"] if people else []
    looks += [f"[its worst and best photos]({photos})"] if photos else []
    return "\n".join(
        [
            f"**MAE {summary.mae.value:.2f} years** (95 % interval over people {summary.mae.low:.2f} to "
            f"{summary.mae.high:.2f}); a constant guess scores {guess.mae.value:.2f}.",
            *(["Synthetic people: this means nothing about real faces."] if about.built_in else []),
            *(f"**{word}**: {MEANING[word]}" for word in about.brand.split(", ") if word),
            "",
            f"- tested: {summary.photos:,} photos of {summary.people} people of {about.dataset} (digest "
            f"`{about.faces_digest}`), each by a network that saw no photo of theirs",
            f"- config: {about.selection}",
            f"- pretraining: {about.learning}",
            *([f"- look at: {', '.join(looks)}"] if looks else []),
        ]
    )
