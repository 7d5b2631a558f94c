"""faces.html: the faces behind the errors, of people once each, and the maps of the model that study.refit made."""

from pathlib import Path

import pytest
import torch

from study.artifacts.about import About
from study.refit.folder import write_model
from study.report.faces import PEOPLE, faces_page, one_face_each
from study.report.sections import Result, Section, sections
from tests.model.models import CONFIG, plan_of, random_predictions, random_states
from trainables.faces.table import Faces, load_faces


@pytest.fixture(scope="module")
def table(tmp_path_factory, make_table) -> Path:
    return make_table(tmp_path_factory.mktemp("faces") / "people", people=6, photos=4)


@pytest.fixture(scope="module")
def faces(table) -> Faces:
    return load_faces([table], px=CONFIG.px)


def section_of(faces: Faces, folder: Path) -> Section:
    about = About("drawn", faces.digest, CONFIG.to_json(), key="0123456789ab", faces=(str(folder),))
    (section,) = sections([Result("a test", about, random_predictions(faces))], draws=50)
    return section


def test_the_page_has_the_faces_and_warns_of_publishing(table, faces):
    page = faces_page([section_of(faces, table)], explain=False)
    assert page is not None
    assert page.count("<figure>") == 2 * min(20, len(faces))
    assert "Do not publish" in page
    assert "http" not in page


@pytest.mark.slow
def test_maps_need_a_model_of_the_same_faces(table, faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.report.faces.PEOPLE", 1)
    monkeypatch.setattr("study.report.faces.WORST", 2)
    section = section_of(faces, table.resolve())
    page = faces_page([section], explain=True)
    assert page is not None
    assert "Where the network looks" not in page
    assert "python -m study.refit" in capsys.readouterr().out
    torch.manual_seed(0)
    write_model(
        tmp_path / "runs/models/one",
        plan_of(faces, seeds=1),
        random_states(1),
        training="t",
        content="c",
        measured=None,
    )
    page = faces_page([section], explain=True)
    assert page is not None
    assert "Where the network looks" in page
    assert page.count("data:image/png") == 3, "the means by decade, and the two worst faces"
    assert "Deletion test over" in page


def test_faces_that_are_gone_are_a_line(table, faces, tmp_path, capsys):
    assert faces_page([section_of(faces, tmp_path / "gone")], explain=False) is None
    assert "gone" in capsys.readouterr().err


def test_each_person_counts_once_in_a_decade(faces):
    for decade, rows in one_face_each(faces).items():
        assert len(set(faces.person[rows])) == len(rows) <= PEOPLE
        assert set(faces.age[rows] // 10 * 10) == {decade}
