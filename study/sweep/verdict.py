"""The end of a sweep: plots, best.json, MLflow's metrics, and what the terminal says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from study.artifacts.best import Best, BlockWinner
from study.artifacts.brands import brand, branded, unlike
from study.cli.describe import describe
from study.cli.options import is_synthetic
from study.files.storage import write_json
from study.sweep.finalists import Winner
from study.sweep.journal import read_journal
from study.sweep.lambdas import draw_lambdas
from study.sweep.optimism import describe_choice
from study.sweep.optuna_storage import study_of
from study.sweep.pages import outcome, save_views
from study.sweep.pareto import cost_field, draw_front, front_points, front_table
from study.sweep.plan import SweepRun
from study.sweep.plots import draw
from study.sweep.selection import Block
from study.sweep.shares import tally
from study.tracking import runs as tracking
from study.tracking.look import how_to_look
from study.tracking.sqlite import sqlite_uri
from trainables.faces.table import Faces, read_identities


def conclude(
    running: SweepRun, chosen: Sequence[tuple[Block, Winner]], tested: list[Path], folders: list[Path], faces: Faces
) -> None:
    """Plots, best.json, MLflow's figures, and what is said at the end."""
    options, store, parent, folder = running.options, running.store, running.parent, running.folder
    journals = {block.name: read_journal(folder / block.name) for block, _ in chosen}
    cost = cost_field(options.objective)
    mark = brand(sealed=options.select != "none", learned_from=running.learned_from)
    for block, _ in chosen:
        journal = journals[block.name]
        plots = draw(study_of(running.mirror(block), journal), folder, name=block.name, mark=branded("", mark))
        title = f"{branded(f'{folder.name}/{block.name}', mark)}: what accuracy costs"
        picture = draw_front(journal, cost, folder / f"{block.name}-front.png", title=title)
        title = f"{branded(f'{folder.name}/{block.name}', mark)}: MAE over the weights of the loss"
        weights = draw_lambdas(journal, folder / f"{block.name}-lambdas.png", title=title)
        tracking.log_files(store, parent, [*plots, *(file for file in (picture, weights) if file)])
        if len({(tried.config.backbone, tried.config.px) for tried in journal.values()}) > 1:
            print(f"{block.name}: the best at each cost\n{front_table(journal, cost)}\n", flush=True)
    winners = [replace(winner.tried, trial=winner.config.to_json()) for _, winner in chosen]
    told = describe_choice(list(journals), list(journals.values()), winners, faces)
    networks = running.space.backbones
    told = replace(
        told,
        networks=tally(list(journals.values()), networks) if len(networks) > 1 else (),
        front=tuple(point for name, journal in journals.items() for point in front_points(name, journal, cost)),
    )
    best = Best(
        sweep=folder.name,
        select=options.select,
        sealed=options.select != "none",
        faces=tuple(map(str, tested)),
        faces_digest=None if options.select == "dev" else faces.digest,
        apart_from=tuple(map(str, folders)) if options.select == "dev" else (),
        starts=tuple(start.record for start in running.starts.values()),
        learned_from=running.learned_from,
        unlike=unlike([start.record for start in running.starts.values()]),
        choice=told,
        blocks=tuple(
            BlockWinner(
                block.name, block.people, winner.config.to_json(), winner.tried.number, winner.mae, winner.seeds
            )
            for block, winner in chosen
        ),
        key=running.key,
        space=options.space,
        trials=running.trials if running.budget is None else max(map(len, journals.values())),
        built_in=is_synthetic(read_identities(tested).datasets),
        beside=running.beside,
    )
    write_json(folder / "best.json", best.to_json())
    tracking.log_json(store, parent, "best.json", best.to_json())
    view = save_views(running)
    figures = {f"chosen/{block.name}": winner.mae for block, winner in chosen}
    figures |= {f"choice/{name}": value for name, value in asdict(told.optimism).items()}
    found_by = {tracking.COMPLETE: "yes", "study.name": folder.name, "study.folder": str(folder)}
    tracking.finish(store, parent, metrics=figures, tags=found_by, note=outcome(running, chosen, journals))
    where = {"blocks": "on others", "dev": "on the dev part", "none": "on everyone"}[options.select]
    for block, winner in chosen:
        seeds = f", mean of {winner.seeds} seeds" if winner.seeds > 1 else ""
        print(
            f"{branded(block.name, mark)} chose trial {winner.tried.number:03d}: {describe(winner.config)}, "
            f"MAE {winner.mae:.2f} {where}{seeds}"
        )
    for each in told.networks:
        print(f"  {each.sentence}")
    gap = told.optimism
    print(
        f"Of that choice: the least error claims {gap.claimed:.2f}, corrected for being the least of many "
        f"{gap.corrected:.2f} (optimism {gap.gap:.2f}, 95 % {gap.gap_low:.2f} to {gap.gap_high:.2f})"
    )
    print(f"Next: python -m study.lopo --best --sweep {shlex.quote(str(folder))}")
    print(f"Look: {how_to_look(store, view)}")
    live = f"optuna-dashboard {shlex.quote(sqlite_uri(folder / 'optuna.db'))}"
    print(f"Plots: {folder}/*.png        Optuna's own page: {live}")
