"""The report on results made up for the purpose: tables, sentences, pictures, and what is never mixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.artifacts.about import About, Pretraining
from study.artifacts.predictions import SCHEMA, Predictions, write_predictions
from study.artifacts.pretraining import LearnedFrom
from study.cli.describe import backbone_name
from study.cli.run import main, message
from study.files import locks
from study.report import command as report
from study.report import figures, sentences, tables
from study.report.document import document, terminal
from study.report.figures import PICTURES
from study.report.paper import PAPER_MAE, PAPER_RMSE
from study.report.sections import Result, labels, sections
from study.statistics.bootstrap import Interval
from study.tracking import runs as tracking


def predictions(*, noise: float = 3.0, rng: int = 0, people: int = 12, seeds: int = 1, constant: bool = False):
    """Six photos a person; the same photos whatever the noise."""
    age = np.random.default_rng(9).integers(0, 60, 6 * people).astype(np.int16)
    person = np.repeat([f"fgnet/{i:03d}" for i in range(people)], 6)
    generator = np.random.default_rng(rng)
    photo = np.array([f"fgnet/{i:04d}.JPG" for i in range(len(age))])
    answers = age + generator.normal(0, noise, (seeds, len(age)))
    if constant:
        answers = np.full((seeds, len(age)), 21.0)
    predicted = np.clip(answers, 0, 90).ravel()
    density = np.exp(-np.square((np.arange(101) - predicted[:, None]) / noise) / 2)
    return Predictions(
        photo=np.tile(photo, seeds),
        person=np.tile(person, seeds),
        age=np.tile(age, seeds),
        predicted=predicted.astype(np.float32),
        distribution=(density / density.sum(axis=1, keepdims=True)).astype(np.float32),
        fold=np.tile(person, seeds),
        seed=np.repeat(np.arange(seeds, dtype=np.int32), len(age)),
        fingerprint=np.full(seeds * len(age), "test"),
    )


def about(backbone: str = "efficientnet_b0", *, dataset: str = "fgnet", digest: str = "d1", **trial) -> About:
    return About.from_json(record(backbone, dataset=dataset, digest=digest, **trial), where="about")


def record(backbone: str = "efficientnet_b0", *, dataset: str = "fgnet", digest: str = "d1", **trial) -> dict:
    """about.json as earlier versions wrote it: with what must be there, and little more."""
    return {
        "dataset": dataset,
        "faces": [f"runs/{dataset}"],
        "faces_digest": digest,
        "photos": 72,
        "people": 12,
        "trial": {
            "backbone": backbone,
            "loss": {"name": "mean_variance", "mean_weight": 0.2, "variance_weight": 0.05},
            "px": 64,
            "epochs": 4,
            "batch": 32,
            "learning_rate": 0.001,
            **trial,
        },
        "selection": "Chosen by a sweep with these people in sight, so the figure is optimistic.",
        "pretraining": {"what": "ImageNet, then UTKFace"},
        "seeds": [0],
        "schedule": "plain",
        "built_in": dataset == "people",
        "epochs_by": "fixed beforehand.",
    }


@pytest.fixture
def three() -> list[Result]:
    return [
        Result("lopo b0", about(), predictions(rng=1)),
        Result("lopo lite0", about("efficientnet_lite0"), predictions(rng=2, noise=2.0, seeds=2)),
        Result("lopo 34", about("resnet34"), predictions(rng=3, noise=8.0)),
    ]


def text(*results: Result) -> str:
    """report.md, its pictures not drawn."""
    found = sections(results, draws=200)
    return document(found, [{name: f"{name}.png" for name in PICTURES} for _ in found])


def cells(markdown: str, row: str) -> list[str]:
    """The cells of the row of a Markdown table that starts with this name."""
    line = next(line for line in str(markdown).splitlines() if line.startswith(f"| {row} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_report_and_pictures_are_written_and_none_is_blank(tmp_path, three):
    written = report.write_report(three, out=tmp_path / "report", draws=200)
    assert [file.suffix for file in written.files] == [".md", ".html", *[".png"] * 5]
    for picture in written.files[2:]:
        pixels = np.asarray(Image.open(picture).convert("L"))
        assert min(pixels.shape) > 300
        assert pixels.std() > 5
        assert f"({picture.name})" in written.files[0].read_text()


def test_the_papers_figures_stand_beside_ours_and_what_was_not_run_is_one_line(three):
    section = sections(three, draws=200)[0]
    table = tables.mae_table(section)
    for backbone in ("efficientnet_b0", "resnet34"):
        assert cells(table, backbone_name(backbone))[1] == f"{PAPER_MAE[backbone]:.2f}"
    ours = section.summaries["EfficientNet-B0"].mae
    assert cells(table, "EfficientNet-B0")[2] == f"{ours.value:.2f} ({ours.low:.2f} to {ours.high:.2f})"
    assert cells(table, "EfficientNet-Lite0")[1] == "–"
    assert cells(table, "constant guess")[2].startswith(f"{section.guess_summary.mae.value:.2f} ")
    assert [row[0] for row in table.rows] == ["ResNet-34", "EfficientNet-B0", "EfficientNet-Lite0", "constant guess"]
    assert cells(tables.rmse_table(section), "ResNet-34")[1] == f"{PAPER_RMSE['resnet34']:.2f}"
    line = tables.not_run(section)
    missing = [
        f"{backbone_name(b)} ({mae:.2f})" for b, mae in PAPER_MAE.items() if b not in ("efficientnet_b0", "resnet34")
    ]
    assert all(each in line for each in missing)
    assert "ResNet-34" not in line
    assert line in text(*three)


def test_the_papers_figures_are_left_out_beside_other_people(three):
    (section,) = sections([Result("lopo", about(dataset="utkface"), predictions())], draws=200)
    assert "paper" not in " ".join(tables.mae_table(section).header)
    assert tables.not_run(section) == ""


def test_the_report_says_for_whom_the_leader_errs():
    table = predictions(people=40, noise=1.0)
    worse = table.person < "fgnet/013"
    off = np.where(worse, table.age + 9.0, table.predicted).astype(np.float32)
    attributes = {"sex": np.where(worse, "female", "male"), "found": np.full(len(table), "first try")}
    found = text(Result("lopo", about(), replace(table, predicted=off, attributes=attributes)))
    part = found[found.index("### For whom does it err?") : found.index("### Predicted against true age")]
    assert "- The largest error: sex female, MAE 9.00" in part
    assert "- At the same ages the error for sex female is larger than for the others by " in part
    assert "- By age the error is largest from " in part
    assert "Not known of these photos: group, colour, sharpness, face size." in part
    assert "The same for all whose value is known: found (first try)." in part
    assert cells(part, "sex: female")[1:4] == ["78", "13", "9.00 (9.00 to 9.00)"]
    assert "MAE of those aged 18 to 30: " in part
    young = (table.age >= 14) & (table.age <= 17)
    assert cells(part, "everyone")[2].startswith(f"{100 * (off[young] >= 25).mean():.1f} % (")
    assert "an earlier version made it" in text(Result("lopo", about(), table))


def test_the_decoder_stands_beside_every_mae():
    results = [
        Result("1", about(), predictions()),
        Result("2", about("resnet18", decoder="median"), predictions(rng=1)),
    ]
    (section,) = sections(results, draws=200)
    decoders = {row[0]: row[-1] for row in tables.mae_table(section).rows}
    assert decoders == {"EfficientNet-B0": "expectation", "ResNet-18": "median", "constant guess": "median"}
    assert f"(decoder: {section.about.decoder})" in sentences.headline(section)


def test_cs_is_given_for_real_valued_and_for_rounded_predictions(three):
    section = sections(three, draws=200)[0]
    rows = {(row[0], row[1]): [float(cell) for cell in row[2:]] for row in tables.cs_table(section).rows}
    one = section.results["EfficientNet-B0"].predictions
    error = np.abs(np.floor(one.predicted.astype(np.float64) + 0.5) - one.age)
    expected = np.mean([100 * (error[one.person == who] <= 5).mean() for who in one.people])
    assert rows["EfficientNet-B0", "whole years"][tables.CS_COLUMNS.index(5)] == pytest.approx(expected, abs=0.05)
    assert rows["EfficientNet-B0", "whole years"][0] > rows["EfficientNet-B0", "real-valued"][0]
    assert f"{rows[section.leader, 'whole years'][tables.CS_COLUMNS.index(5)]:.1f} % in whole" in text(*three)


def test_the_constant_guess_is_in_every_table_of_figures(three):
    section = sections(three, draws=200)[0]
    for make in (tables.mae_table, tables.rmse_table, tables.cs_table, tables.calibration_table):
        assert "| constant guess " in str(make(section))
    assert "constant guess" in str(tables.age_table(section))


def test_it_says_on_which_data_with_which_pretraining_and_how_it_was_chosen(three):
    told = text(*three)
    assert "FG-NET: 12 people, 72 photos" in told
    assert "ImageNet, then UTKFace." in told
    assert "so the figure is optimistic" in told
    assert "few: intervals" not in told
    assert "8 people are few: intervals" in text(Result("c", about(), predictions(people=8)))
    assert "MWR" in told


def test_every_pair_is_compared_with_holms_correction(three):
    section = sections(three, draws=200)[0]
    text = sentences.comparisons(section)
    assert text.count("\n- ") + 1 == 3
    assert "EfficientNet-Lite0 is better than ResNet-34 by " in text
    assert "after Holm's correction over 3 comparisons" in text


def test_results_on_different_faces_are_never_mixed():
    results = [
        Result("a", about("resnet34", dataset="people"), predictions(rng=2)),
        Result("b", about(), predictions(rng=1)),
        Result("c", about("resnet34", digest="d2"), predictions(rng=2)),
        Result("d", about("resnet34"), predictions(rng=2, people=8)),
    ]
    found = sections(results, draws=200)
    assert [list(each.results) for each in found] == [["EfficientNet-B0"], *[["ResNet-34"]] * 3]
    assert [each.built_in for each in found] == [False, False, False, True]
    assert not any(each.comparisons for each in found)
    told = text(*results)
    assert [line for line in told.splitlines() if line.startswith("## ")] == [
        "## FG-NET: 12 people, 72 photos",
        "## FG-NET: 12 people, 72 photos",
        "## FG-NET: 8 people, 48 photos",
        "## Synthetic people: 12 people, 72 photos",
    ]


@pytest.mark.slow
def test_two_sections_with_the_same_faces_keep_their_own_pictures(tmp_path):
    results = [Result(n, about(), predictions(people=p)) for n, p in (("a", 12), ("b", 8))]
    written = report.write_report(results, out=tmp_path, draws=200)
    assert len(set(written.files)) == 12
    assert all(file.is_file() for file in written.files)


def test_the_first_line_on_built_in_people_says_so():
    result = Result("c", about(dataset="people"), predictions())
    told = text(result)
    first = told.splitlines()[0]
    assert "synthetic people" in first
    assert "mean nothing about real faces" in first
    assert "MWR" not in told
    assert "mean nothing about real faces" in terminal(sections([result], draws=200))


def test_a_collapsed_model_is_announced():
    told = text(Result("c", about(), predictions(constant=True)))
    assert "**Alarm, EfficientNet-B0:** Seed 0 predicts nearly the same age for everyone" in told


@pytest.mark.slow
def test_four_people_are_reported_without_intervals(tmp_path):
    written = report.write_report([Result("c", about(), predictions(people=4))], out=tmp_path, draws=200)
    told = written.files[0].read_text()
    assert "below 5 none is given" in told
    assert "nan" not in told


def test_a_sealed_choice_of_several_configs_is_named_by_all_of_them():
    sealed = replace(about(), trials=(about().trial, about("resnet34", px=96).trial, about().trial))
    section = sections([Result("best of sweep", sealed, predictions())], draws=200)[0]
    assert section.leader == "EfficientNet-B0 or ResNet-34"
    assert cells(tables.mae_table(section), "EfficientNet-B0 or ResNet-34")[1] == "–"
    assert "EfficientNet-B0 (3.06)" in tables.not_run(section), "no result is of this network alone"
    assert cells(tables.config_table(section), "EfficientNet-B0 or ResNet-34")[1] == "64 or 96"


def test_labels_tell_configs_of_one_backbone_apart():
    def named(*abouts):
        return labels([Result("", each, predictions()) for each in abouts])

    assert named(about(), about("resnet34")) == ["EfficientNet-B0", "ResNet-34"]
    assert named(about(), about(px=96)) == ["EfficientNet-B0 (64 px)", "EfficientNet-B0 (96 px)"]
    assert named(about(), about()) == ["EfficientNet-B0 [1]", "EfficientNet-B0 [2]"]
    assert named(about("my_net")) == ["my_net"]
    trial = {"backbone": "efficientnet_b0", "px": 64, "schedule": "cosine"}
    plain, tree = (replace(about(), trial=trial, schedule=kind) for kind in ("plain", "tree"))
    assert named(plain, tree) == ["EfficientNet-B0 (plain)", "EfficientNet-B0 (tree)"]
    other = replace(plain, trial={**trial, "schedule": "constant"})
    assert named(plain, other) == ["EfficientNet-B0 (cosine rate)", "EfficientNet-B0 (constant rate)"]
    drawn = replace(plain, trial={**trial, "drop_path": 0.04492958527962041})  # a sampler's digits are not for people
    assert named(drawn, other)[0] == "EfficientNet-B0 (cosine rate, drop_path 0.0449)"


def lopo_run(place: Path, track: tracking.Tracking, *, key: str, result: Result) -> None:
    """A complete LOPO run as study.lopo logs it."""
    place.mkdir()
    write_predictions(place / "predictions.parquet", result.predictions, about=result.about.to_json())
    run_id = tracking.find_or_start(track, key=key, name=result.name, stage="lopo")
    tracking.log_json(track, run_id, "about.json", result.about.to_json())
    tracking.log_files(track, run_id, [place / "predictions.parquet"])
    tracking.finish(track, run_id, tags={tracking.COMPLETE: "yes"})


@pytest.mark.slow
def test_the_command_reads_mlflow_and_logs_what_it_wrote(tmp_path, monkeypatch, capsys, three):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = ["--draws", "200", "--out", "out"]
    assert main(report.report, report.Report, prog="python -m study.report", args=run) == 1
    error = capsys.readouterr().err
    assert "python -m study.lopo --best" in error
    assert error.splitlines()[-1].startswith("python -m study.report: error: ")
    assert "Traceback" not in error
    track = tracking.connect()
    for i, result in enumerate(three[:2]):
        lopo_run(tmp_path / str(i), track, key=f"lopo-{i}", result=result)
    for _ in range(2):  # a second report on the same results is the same run
        assert main(report.report, report.Report, prog="python -m study.report", args=run) == 0
    out = capsys.readouterr().out
    monkeypatch.setattr(locks, "GRACE", 0.0)
    with locks.hold(Path("out")):
        assert main(report.report, report.Report, prog="python -m study.report", args=run) == 1
    assert "out is in use by process" in capsys.readouterr().err
    assert "| EfficientNet-Lite0 " in out
    assert "viewStateShareKey=results" in out
    runs = track.client.search_runs([track.experiment], f"tags.`{tracking.STAGE}` = 'report'")
    assert len(runs) == 1
    assert {"report.md", "fgnet-d1-cs.png"} <= {each.path for each in track.client.list_artifacts(runs[0].info.run_id)}
    assert runs[0].data.metrics["fgnet-d1/mae"] == pytest.approx(
        sections(three[:2])[0].summaries["EfficientNet-Lite0"].mae.value
    )


def test_real_and_synthetic_people_have_reports_of_their_own(three, capsys):
    drawn = Result("lopo synthetic", about(dataset="people"), predictions())
    results = {"a": three[0], "b": drawn, "c": three[1]}
    apart = {Path("runs/report"): ["a", "c"], Path("runs/synthetic/report"): ["b"]}
    assert {out: list(chosen) for out, chosen in report.split(results, None).items()} == apart
    assert report.split({"b": drawn}, Path("mine")) == {Path("mine"): {"b": drawn}}
    assert capsys.readouterr().err == ""
    assert report.split(results, Path("mine")) == {Path("mine"): {"a": three[0], "c": three[1]}}
    assert "Left out: 1 results of synthetic people" in capsys.readouterr().err


def test_a_brand_stands_wherever_the_result_does(three):
    """In every table, picture and sentence that names it; and what was not compared is not claimed."""
    overlap = LearnedFrom("overlap", photos=12, people=1, compared=9, synthetic=False, sentence="12 of the photos")
    bad = replace(three[0].about, sealed=False, learned_from=overlap)
    (section,) = sections([Result("lopo b0", bad, three[0].predictions), *three[1:]], draws=200)
    name = "EfficientNet-B0 [OPTIMISTIC, OVERLAP]"
    told = [
        tables.mae_table(section),
        tables.rmse_table(section),
        tables.cs_table(section),
        tables.config_table(section),
    ]
    told += [sentences.comparisons(section), tables.calibration_table(section), terminal([section])]
    assert all(name in str(each) for each in told)
    warned = "\n".join(sentences.caveats(section))
    assert f"**OPTIMISTIC: {name}.**" in warned
    assert f"**OVERLAP: {name}.**" in warned
    assert f"OVERLAP: {name}. Its network was pretrained on some of the tested people" in terminal([section])
    for figure in figures.draw(section).values():
        drawn = " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
        assert "EfficientNet-B0" not in drawn or "OPTIMISTIC" in drawn
    assert "never saw" not in sentences.headline(section)
    assert "whether its pretraining had seen them is not recorded" in sentences.headline(section)


def test_networks_that_start_otherwise_are_told_in_the_headline(three):
    other = replace(three[2].about, pretraining=Pretraining("none (random weights)"))
    (section,) = sections([*three[:2], Result("lopo 34", other, three[2].predictions)], draws=200)
    assert "Read with care: the networks do not start alike" in sentences.headline(section)
    assert "Read with care: the networks do not start alike" in terminal([section])
    (alike,) = sections(three, draws=200)
    assert "do not start alike" not in sentences.headline(alike)
    assert "Read with care" not in terminal([alike])
    swept = replace(three[0].about, pretraining=Pretraining("ImageNet", "resnet18 starts from nothing"))
    (both,) = sections([Result("lopo b0", swept, three[0].predictions), *section.results.values()][::2], draws=200)
    assert "do not start alike" in sentences.headline(both)
    assert "in the sweep behind EfficientNet-B0, resnet18 starts from nothing" in sentences.headline(both)


def test_a_constant_guess_that_is_better_is_drawn_on_the_axis():
    guess = 3.0
    rows = [figures.MaeRow("ours", Interval(10.0, 9.0, 11.0), None)]
    figure = figures.mae_rows(rows, guess=guess, caption=figures.Caption("MAE", "people"), paper=None)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert low < guess < high
    assert any(list(line.get_xdata()) == [guess, guess] for line in axes.lines)


def test_edited_predictions_end_the_report_with_a_line_that_names_the_run(tmp_path, three, capsys):
    file = tmp_path / "predictions.parquet"
    write_predictions(file, three[0].predictions, about=three[0].about.to_json())
    run = tracking.LopoRun("0a1b", "lopo b0", replace(three[0].about, dataset="../elsewhere"), file)
    assert report.read_result(run).about == three[0].about, "about.json is not believed"
    assert "about.json of MLflow run 'lopo b0' (0a1b) differs from" in capsys.readouterr().err
    whole = pq.ParquetFile(file).read()
    truth = whole.set_column(3, SCHEMA.field("predicted"), whole["age"].cast(pa.float32()))
    pq.write_table(truth.replace_schema_metadata(whole.schema.metadata), file)
    with pytest.raises(ValueError, match=r"^predictions.parquet of MLflow run 'lopo b0' \(0a1b\) was damaged") as error:
        report.read_result(run)
    assert message(error.value)
