"""A block's trials in Optuna's own plots: how the best MAE fell, which parameters mattered, and where it was low."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.visualization import matplotlib as optuna_plots

from study.pictures import save_picture
from trainables.trial import WORST_MAE

MAE = "MAE (years)"

LEAST = {"history": 1, "slice": 2, "importance": 8, "parallel": 4}
"""Trials of different MAE that a plot needs to say something: complete ones, for importance pruned ones too."""


EACH = 10
"""Trials for each hyperparameter below which the importance says that it means nothing: over 8 trials of 4 it named the
wrong one."""


def draw(study: optuna.Study, folder: Path, *, name: str, mark: str = "") -> list[Path]:
    """Write `folder`/`name`-history.png, -slice, -importance and -parallel; those are left out that lack trials.

    Importance is PED-ANOVA's (Watanabe et al., IJCAI 2023), which needs no fitted model. It is of the parameters that
    every trial has, for it would leave out the trials that lack one, and of the pruned trials too, with the MAE at
    which they ended: they are what the bad choices led to. Parallel coordinates show the parameters that all complete
    trials have; conditional ones stand in the slices. mark: what stands behind the study's name.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    different = len({trial.value for trial in complete})
    shared = sorted(set.intersection(*[set(trial.params) for trial in complete])) if complete else []
    varied = [param for param in shared if len({trial.params[param] for trial in complete}) > 1]
    scored = _with_pruned(study)
    asked = [set(trial.params) for trial in scored.trials]
    weighed = sorted(set.intersection(*asked)) if asked else []
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    importance = partial(optuna_plots.plot_param_importances, evaluator=evaluator, params=weighed, target_name=MAE)
    plots: dict[str, Callable[[], Any]] = {
        "history": partial(optuna_plots.plot_optimization_history, study, target_name=MAE),
        "slice": partial(optuna_plots.plot_slice, study, target_name=MAE),
        "importance": partial(importance, scored),
        "parallel": partial(optuna_plots.plot_parallel_coordinate, study, params=varied, target_name=MAE),
    }
    enough = {plot for plot, least in LEAST.items() if different >= least} - {"importance"}
    if len(weighed) > 1 and len({trial.value for trial in scored.trials}) >= LEAST["importance"]:
        enough.add("importance")
    if not any(trial.params for trial in complete):
        enough &= {"history"}
    if len(varied) < 2:
        enough -= {"parallel"}
    files = []
    for plot in [plot for plot in plots if plot in enough]:
        # Optuna's style stays inside, and its warnings: that its plots are experimental, that one value makes no axis
        with matplotlib.rc_context({"figure.dpi": 110}), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plt.switch_backend("Agg")
            axes = plots[plot]()
            figure = np.ravel(axes)[0].figure
            if plot == "slice":
                _tidy_slices(figure, np.ravel(axes).tolist())
            elif plot == "importance":
                figure.set_size_inches(7.5, max(3.0, 1.2 + 0.45 * len(weighed)))
            else:
                figure.set_size_inches(9.0, 4.8)
            told = f"{len(complete)} complete trials"
            if plot == "importance":
                told += f" and {len(scored.trials) - len(complete)} pruned"
                if len(scored.trials) < EACH * len(weighed):
                    told += f"; too few to say what matters ({EACH} for each hyperparameter: {EACH * len(weighed)})"
            figure.suptitle(f"{study.study_name}{mark}: {told}", x=0.02, y=1.03, ha="left")
            file = folder / f"{name}-{plot}.png"
            save_picture(figure, file, bbox_inches="tight")
            plt.close(figure)
        files.append(file)
    return files


def _with_pruned(study: optuna.Study) -> optuna.Study:
    """The complete and the pruned trials, all as complete; those that diverged have no error to speak of."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    together = optuna.create_study()
    for trial in study.get_trials(states=states):
        if trial.value is not None and trial.value < WORST_MAE:
            trial.state = optuna.trial.TrialState.COMPLETE
            together.add_trial(trial)
    return together


def _tidy_slices(figure: Figure, slices: list[Axes]) -> None:
    """A slice for each parameter beside the next, with names and powers of ten that do not overlap."""
    figure.set_size_inches(max(5.0, 2.8 * len(slices)), 4.2)
    for axes in slices:
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", rotation=60)
