"""Six questions asked of a small study, answered by what MLflow's page shows in Chromium behind the printed links.

This also pins the undocumented format of saved views: it fails when MLflow changes it.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from study.artifacts.predictions import read_predictions
from tests.commands.typed import run
from tests.ui.pages import CHROMIUM, browser, read, served

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="Playwright is not installed (.[dev])"),
]
FAST = ["--px", "32", "--batch", "16"]
SWEEP = ["--space", "tour", "--trials", "2", "--select", "none", "--folds", "2", "--epochs", "2", "--finalists", "0"]


def records(cwd: Path) -> list[tuple[object, ...]]:
    """All that MLflow holds of the study's runs, but for its artifacts."""
    client = MlflowClient(f"sqlite:///{cwd / 'mlruns' / 'mlflow.db'}")
    ids = [each.experiment_id for each in client.search_experiments()]
    return sorted(
        (run.info.run_id, run.info.run_name, run.info.status, run.info.start_time, run.info.end_time,
         json.dumps([run.data.metrics, run.data.params, run.data.tags], sort_keys=True))
        for run in client.search_runs(ids, max_results=1000)
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, make_table, one_ray) -> Path:
    """A copy of a folder with a sweep and a LOPO: the original is gone."""
    cwd = tmp_path_factory.mktemp("study") / "original"
    make_table(cwd / "people", people=6, photos=4)
    run(cwd, "sweep", "--faces", "people", *SWEEP, *FAST)
    shown = run(cwd, "lopo", "--best")
    assert "viewStateShareKey=results" in shown
    before = records(cwd)
    run(cwd, "lopo", "--best")
    assert records(cwd) == before, "a command with nothing to do changes no run"
    return cwd.rename(cwd.with_name("moved"))


@pytest.mark.timeout(2400)
def test_six_questions_are_answered_behind_the_printed_links(place, tmp_path):
    trials = [json.loads(file.read_text()) for file in sorted((place / "runs/sweeps/tour/all").glob("*.json"))]
    trials.sort(key=lambda trial: trial["mae"])
    (result,) = (place / "runs/lopo").glob("*/predictions.parquet")
    predictions, about = read_predictions(result)
    errors = abs(predictions.predicted - predictions.age)
    by_person = {person: errors[predictions.person == person].mean() for person in predictions.people}
    worst = max(by_person, key=by_person.__getitem__)
    client = MlflowClient(f"sqlite:///{place / 'mlruns' / 'mlflow.db'}")
    with served(place) as links, browser() as page:

        def link(start: str) -> str:
            return next(found for title, found in links.items() if title.startswith(start))

        # which backbone is best; which runs are this study's
        text = read(page, link("Trials by MAE"), wait="matching run", picture=tmp_path / "trials.png")
        assert "Welcome to MLflow Assistant" not in text
        assert "2 matching runs" in text
        at = [text.index(f"{trial['mae']:.5f}"[:6]) for trial in trials]
        assert at == sorted(at), "the best trial is on top"
        assert text.index(trials[0]["trial"]["backbone"]) < text.index(trials[1]["trial"]["backbone"])
        # does λ2 matter for one network
        text = read(
            page, link("Does λ2 matter for EfficientNet-Lite1"), wait="lambda2", picture=tmp_path / "lambda2.png"
        )
        assert "1 matching run" in text
        assert {"lambda1", "lambda2", "mae"} <= set(text.split())
        # the best trial's curve beside the second's, a fold a chart
        text = read(page, link("Learning curves"), wait="fold1/validation", picture=tmp_path / "curves.png")
        assert "fold2/" in text
        # how large is the error
        text = read(page, link("LOPO results with"), wait="matching run", picture=tmp_path / "results.png")
        assert "1 matching run" in text
        # the worst person
        text = read(page, link("Worst person first"), wait="matching run", picture=tmp_path / "people.png")
        order = [text.index(f"{name} ·") for name in sorted(by_person, key=by_person.__getitem__, reverse=True)]
        assert order[0] == min(order), worst
        # the worst photo, on the page of the moved folder; and what it was tested on
        experiment = client.get_experiment_by_name("age-study: LOPO results")
        assert experiment is not None
        (run_,) = client.search_runs([experiment.experiment_id])
        address = next(iter(links.values())).split("/#/")[0]
        place_of = f"{address}/#/experiments/{experiment.experiment_id}/runs/{run_.info.run_id}"
        text = read(page, place_of, wait="Description", picture=tmp_path / "run.png")
        assert about["faces_digest"] in text
        assert "drawn" in text
        read(page, f"{place_of}/artifacts/photos.html", wait="photos.html", picture=tmp_path / "photos.png")
        frame = page.frame_locator("iframe").first
        frame.get_by_text("worst photos").wait_for()
        first = str(frame.locator("figcaption").first.inner_text())
        assert first.splitlines()[-1] in {str(predictions.photo[i]) for i in errors.argsort()[::-1][:2]}
