"""What a sweep writes to MLflow's page for people: its experiment, description and saved views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.artifacts.brands import MEANING, brand
from study.cli.describe import backbone_name, describe
from study.cli.options import is_synthetic
from study.sweep.finalists import Winner
from study.sweep.journal import Tried
from study.sweep.naming import state_of
from study.sweep.options import Sweep
from study.sweep.plan import SweepRun
from study.sweep.selection import Block
from study.tracking import runs as tracking
from study.tracking.questions import question
from study.tracking.views import View, bars, key_of, lines, parallel, save, scatter
from trainables.faces.table import Faces

ON_WHOM = {
    "blocks": "each block's trials are scored on people of the other blocks",
    "dev": "scored on a dev part of the pretraining data, on none of the tested people",
    "none": "scored on the tested people themselves, so that the winner's MAE is optimistic",
}


def open_questions(options: Sweep, name: str, faces: Faces) -> tracking.Tracking:
    """The connection to this sweep's own experiment."""
    note = (
        f"**Which network and which loss tell age best?** Sweep `{name}`, search space `{options.space}`, asked of "
        f"{len(faces):,} faces of {len(faces.people)} people ({', '.join(faces.datasets)}); {ON_WHOM[options.select]}. "
        "A run with a block is a trial; `mae` is its own result alone, what was measured inside has its fold as prefix."
    )
    synthetic = is_synthetic(faces.datasets)
    return question(tracking.connect(), f"sweep {name}", note=note, synthetic=synthetic)


def save_views(running: SweepRun) -> str:
    """Save the sweep's views on the page; returns the first one's key."""
    own = f"tags.`study.stage` = 'trial' and tags.`mlflow.parentRunId` = '{running.parent}'"
    complete = f"{own} and tags.`study.state` = 'complete'"
    columns = [f"params.{name}" for name in ("backbone", "lambda1", "lambda2", "learning_rate")]
    columns = ["metrics.mae", *columns, "params.block", "tags.study.state", "metrics.seconds"]
    asked = ["lambda1", "lambda2", "learning_rate"]
    each = running.space.backbones or (running.base.backbone,)
    views = [
        View("trials", "Trials by MAE: backbone, λ1, λ2, learning rate", own, "metrics.mae", columns),
        View(
            "curves", "Learning curves of the best trials, fold by fold", complete, "metrics.mae", columns,
            charts=[
                lines(f"Fold {fold}: MAE (years) on its people, by epoch", metric=f"fold{fold}/validation_mae")
                for fold in range(1, running.options.folds + 1)
            ],
        ),
        View(
            "backbones", "Which backbone is best?", complete, "metrics.mae", columns,
            charts=[
                scatter("MAE (years) by backbone", x="params.backbone", y="metrics.mae"),
                parallel("Backbone, λ1, λ2, learning rate and MAE", params=["backbone", *asked], metrics=["mae"]),
                bars("The trials by MAE (years)", metric="mae"),
            ],
        ),
    ]  # fmt: skip
    for backbone in each:
        where = f"{complete} and params.backbone = '{backbone}'"
        views.append(
            View(
                f"lambda2-{key_of(backbone)}", f"Does λ2 matter for {backbone_name(backbone)}?", where, "metrics.mae",
                columns, charts=[
                    parallel("λ1, λ2, learning rate and MAE", params=asked, metrics=["mae"]),
                    scatter("MAE (years) over λ2", x="params.lambda2", y="metrics.mae"),
                    scatter("MAE (years) over λ1", x="params.lambda1", y="metrics.mae"),
                ],
            )
        )  # fmt: skip
    save(running.store, views)
    return views[0].key


def dataset_of(faces: Faces, folders: Sequence[Path]) -> dict[str, Any]:
    """The faces that trials train and are scored on, for MLflow."""
    return tracking.dataset(
        ", ".join(faces.datasets), digest=faces.digest, source=folders, faces=len(faces), people=len(faces.people),
        context="training and scoring",
    )  # fmt: skip


def outcome(
    running: SweepRun, chosen: Sequence[tuple[Block, Winner]], journals: Mapping[str, Mapping[int, Tried]]
) -> str:
    """The description of the sweep's own run, in Markdown: asked what, of whom, what came out, what to look at."""
    options = running.options
    states = [state_of(tried) for journal in journals.values() for tried in journal.values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    networks = ", ".join(map(backbone_name, running.space.backbones)) or backbone_name(running.base.backbone)
    mark = brand(sealed=options.select != "none", learned_from=running.learned_from)
    rows = [
        f"| {block.name} | {winner.mae:.2f} | {winner.tried.number} | {describe(winner.config)} | {winner.seeds} |"
        for block, winner in chosen
    ]
    return "\n".join(
        [
            f"Asked: which of {networks}, with which loss; {ON_WHOM[options.select]}. {counts}.",
            *(f"**{word}**: {MEANING[word]}" for word in mark.split(", ") if word),
            "",
            "| block | MAE (years) | trial | chosen | seeds |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Pretraining: {running.learned_from.sentence}. The choice is in `best.json`, the plots are artifacts.",
        ]
    )
