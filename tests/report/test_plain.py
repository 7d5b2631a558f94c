"""Names and records that others wrote: no path, no markup and no terminal's command is taken from them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from study.artifacts.about import About
from study.artifacts.best import Best
from study.artifacts.predictions import Predictions, write_predictions
from study.cli.options import Training
from study.lopo.plan import plan_of_sweep
from study.plain import apart, brief, plain, printable, slug, without_secrets
from study.report import command as report
from study.report.document import document, terminal
from study.report.figures import PICTURES
from study.report.sections import Result, sections
from study.tracking import runs as tracking
from tests.artifacts.test_best import BEST
from tests.report.test_report import about, predictions, record

HOSTILE = (
    "<script>alert(1)</script>\n# Owned\n\n| a | b |\n![p](http://h/p.png) [l](javascript:x) $\\frac{ `c` **b** __u__ "
    "\x1b[31m\u202e https://h www.h.org a@b.org ~~s~~"
)


def test_plain_text_has_no_markup():
    shown = plain(HOSTILE)
    for sign in "<>|`*~$\n\x1b\u202e\\":
        assert sign not in shown
    assert not re.search(r"\]\(|https?://|www\.\w|\w@\w|\b__|^#", shown)
    assert plain("# heading")[0] != "#"
    assert plain("- list")[0] != "-"


@pytest.mark.parametrize(
    "text",
    [
        "EfficientNet-B0 (64 px)", "fgnet/001", "efficientnet_b0", "drawn/001A05_2.JPG", "ImageNet, then UTKFace.",
        "sweep 'night', sealed: each person is tested [block1of2: trial 3 (resnet18)], then by hand {'epochs': 3}",
        "λ1 0.2 λ2 0.05", "runs/pretrained/resnet18", "日本", "-0.5 %"[1:],
    ],
)  # fmt: skip
def test_what_the_study_itself_writes_stays_as_it_is(text):
    assert plain(text) == text


def test_printable_text_moves_no_cursor():
    assert printable("a\x1b[2Jb\r\nc\x9b1md\u202ee") == "a\ufffd[2Jb c\ufffd1md\ufffde"


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/abs", "..\\..\\w", "..", ".", "", "a" * 300, "C:x", "日本", "a\0b"]
)
def test_a_slug_is_one_component_of_a_path(text):
    name = slug(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}", name)
    assert ".." not in name


def test_slugs_are_apart_also_where_case_does_not_count():
    names = apart(["fgnet", "FGNET", "fgnet-1", "fgnet-2", "other", "other"])
    assert len({name.casefold() for name in names}) == 6
    assert apart(["fgnet-d1", "people-d2"]) == ["fgnet-d1", "people-d2"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:geheim@host:5000/x", "postgresql://me:ge/h@eim@host/db", "postgresql://h/db?user=u&password=geheim",
        "https://h/x?access_token=geheim", "mysql://h/db?ssl_password=geheim&x=1",
    ],
)  # fmt: skip
def test_secrets_of_a_uri_are_not_shown(uri):
    for shown in (without_secrets(f"cannot reach {uri}, try later"), brief(ValueError(f"'{uri}' <b>failed</b>"))):
        assert "geheim" not in shown
        assert "eim" not in shown
    assert "host" in without_secrets("http://me:geheim@host:5000")


def hostile(dataset: str, digest: str, **more: object) -> Result:
    told = record(HOSTILE, dataset=dataset, digest=digest, **{HOSTILE: HOSTILE})
    told |= {"selection": HOSTILE, "epochs_by": HOSTILE, "schedule": HOSTILE, "pretraining": {"what": HOSTILE}}
    rows = predictions(constant=True)
    person = np.array([f"{who}{HOSTILE}" for who in rows.person.tolist()])
    return Result(HOSTILE, About.from_json({**told, **more}, where="here"), replace(rows, person=person, fold=person))


@pytest.mark.slow
def test_a_hostile_record_writes_nowhere_else_and_no_markup(tmp_path):
    out = tmp_path / "in" / "report"
    written = report.write_report(
        [hostile("../../../x", "../../d"), hostile("../../../x", "../../d")], out=out, draws=50
    )
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(written.files)
    assert all(file.parent == out for file in written.files)
    text = written.files[0].read_text() + terminal(written.sections)
    for sign in ("<script", "](http", "](javascript", "\n# Owned", "\x1b", "\u202e", "$", "`c`", "**b**"):
        assert sign not in text
    html = written.files[1].read_text()
    assert html.count("<script") == 1, "the page's own"
    for sign in ("](http", "](javascript", "\x1b", "\u202e", "onerror", "href='http", 'href="http'):
        assert sign not in html
    for line in text.splitlines():
        assert line.count("|") in (0, *range(4, 14)), line  # only the tables' own columns


def test_sections_whose_slugs_collide_keep_their_own_pictures_and_metrics(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda section: {name: Figure() for name in PICTURES})
    same = predictions()
    results = [
        Result("a", about(dataset="x/y", digest="d"), same),
        Result("b", about(dataset="x-y", digest="d"), same),
        Result("c", about(dataset="X-Y", digest="d"), same),
        Result("d", about(dataset="x-y-d", digest=""), same),
    ]
    written = report.write_report(results, out=tmp_path, draws=50)
    assert len({str(file).casefold() for file in written.files}) == 2 + 4 * len(PICTURES)
    assert len(report.metrics_of(written.sections)) == 4 * 9


WHERE = "night: about.json"
WRONG = [None, 1, "x", [], {}, [None], True, 1e400, 10**400, {"a": None}, [[]]]


@pytest.mark.parametrize(
    "field",
    ["dataset", "faces_digest", "trial", "trials", "selection", "pretraining", "seeds", "choice", "key", "built_in"],
)
def test_a_field_of_a_wrong_type_is_one_line_or_does_no_harm(field):
    refused = 0
    for value in WRONG:
        try:
            result = Result("night", About.from_json({**record(), field: value}, where=WHERE), predictions(people=5))
        except ValueError as error:
            assert str(error).startswith(f"{WHERE}: {field}")  # noqa: PT017
            refused += 1
            continue
        found = sections([result, Result("other", about(), predictions(people=5, rng=3))], draws=20)
        document(found, [dict.fromkeys(PICTURES, "p.png") for _ in found])
    assert refused > 0


@pytest.mark.parametrize("field", ["dataset", "faces_digest", "trial"])
def test_a_missing_field_is_named(field):
    told = record()
    del told[field]
    with pytest.raises(ValueError, match=f"{WHERE}: {field} is missing"):
        About.from_json(told, where=WHERE)


def test_a_record_of_too_many_levels_is_one_line():
    deep: list = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ValueError, match="night: about.json: trial.deep has more than 20 levels"):
        About.from_json(record(deep=deep), where=WHERE)


@pytest.mark.parametrize("best", [[], {}, {"sweep": 1}, {"sweep": "a", "faces": "runs"}, {"sweep": "a", "faces": [1]}])
def test_a_best_json_that_is_none_names_run_file_and_field(best):
    with pytest.raises(ValueError, match="^run 7: best.json"):
        Best.from_json(best, where="run 7: best.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tracking.Tracking:
    patch = pytest.MonkeyPatch()
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track = tracking.connect(home=tmp_path_factory.mktemp("store") / "mlruns")
    patch.undo()
    return track


def logged(track: tracking.Tracking, place: Path, *, key: str, told: dict, rows: Predictions) -> str:
    place.mkdir()
    write_predictions(place / "predictions.parquet", rows, about=told)
    run = tracking.find_or_start(track, key=key, name=f"run \x1b[31m{key}", stage="lopo")
    tracking.log_json(track, run, "about.json", told)
    tracking.log_files(track, run, [place / "predictions.parquet"])
    tracking.finish(track, run, tags={tracking.COMPLETE: "yes"})
    return run


@pytest.mark.parametrize("harm", [{"blocks": [{"name": 1}]}, {"select": "nonsense"}, {"choice": {}}, {"faces": None}])
@pytest.mark.slow
def test_lopo_takes_no_broken_best_json(store, harm):
    named = replace(BEST, blocks=(replace(BEST.blocks[0], name="block\x1b[2J"),)).to_json()
    best = {name: value for name, value in named.items() if name != "digest"}
    run = tracking.find_or_start(store, key="sweep", name="sweep", stage="sweep")
    tracking.log_json(store, run, "best.json", best)
    tracking.finish(store, run, tags={tracking.COMPLETE: "yes", "study.name": "night"})
    plan = plan_of_sweep(store, name="night", training=Training())
    assert plan.config("a/1") == BEST.blocks[0].config
    assert "\x1b" not in plan.selection
    tracking.log_json(store, run, "best.json", best | harm)
    with pytest.raises(ValueError, match=f"run {run}: best.json: {next(iter(harm))}"):
        plan_of_sweep(store, name="night", training=Training())


def test_a_result_counts_once_and_what_cannot_be_read_is_left_out_with_a_line(store, tmp_path, capsys):
    rows = predictions(people=5)
    good = logged(store, tmp_path / "a", key="lopo-k1", told=record() | {"key": "k1"}, rows=rows)
    logged(store, tmp_path / "b", key="lopo-k2", told=record() | {"key": "k1"}, rows=rows)  # of another key
    twin = logged(store, tmp_path / "c", key="lopo-k3", told=record() | {"key": "k1"}, rows=rows)
    store.client.set_tag(twin, tracking.KEY, "lopo-k1")  # a second complete parent of one key
    lost = logged(store, tmp_path / "d", key="lopo-k4", told=record() | {"key": "k4"}, rows=rows)
    (Path(store.place.shown).parent / "artifacts" / lost / "artifacts" / "about.json").unlink()
    text = logged(store, tmp_path / "e", key="lopo-k5", told=record() | {"key": "k5"}, rows=rows)
    file = Path(store.place.shown).parent / "artifacts" / text / "artifacts" / "about.json"
    file.write_text("[" * 100_000)
    capsys.readouterr()
    found = tracking.finished_lopo(store, folder=tmp_path / "copies")
    assert len(found) == 1
    assert found[0].run_id in (good, twin)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("Left out: run \ufffd[31mlopo-k") for line in lines)
    for said in ("about.json is not JSON", "about.json is missing", "a newer run has the same result", "result k1"):
        assert sum(said in line for line in lines) == 1
