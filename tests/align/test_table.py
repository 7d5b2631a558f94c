"""A user's own photos: every row of a file of labels becomes a face, or is rejected with its reason."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.align.command import align
from study.align.datasets.built_in import PEOPLE
from study.align.datasets.labels import read_labels
from study.align.datasets.table import Source, photos
from study.align.options import Options
from study.align.plan import make_plan
from study.align.roots import common_root, in_parts
from study.cli.run import message
from study.files.storage import Folder, open_folder
from study.landmarks.photos import Photo, PhotoError, Reason, Reject
from study.landmarks.search import Portrait, focus
from trainables.faces.table import load_faces


def listed(tmp_path: Path, text: str, name: str = "labels.csv", **how) -> list[Photo | Reject]:
    """The entries of a file of labels with this text."""
    file = tmp_path / name
    file.write_bytes(text.encode(how.pop("encoding", "utf-8")))
    return list(photos(open_folder(tmp_path), Source(str(file), **how)))


def only(entries: list[Photo | Reject]) -> Photo | Reject:
    (entry,) = entries
    return entry


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("csv", ";"), ("tsv", "\t"), ("txt", "\t")])
def test_labels_come_from_any_spreadsheet(tmp_path, encoding, ending, separator):
    text = "Photo;AGE;Person;Sex;Group\r\na/1.jpg;23;Zoë;F;x\r\n\r\nb 2.png;4;;;\r\n".replace(";", separator)
    assert listed(tmp_path, text, f"labels.{ending}", encoding=encoding) == [
        Photo("a/1.jpg", 23, person="Zoë", sex="female", group="x"),
        Photo("b 2.png", 4),
    ]


def test_parquet_and_json_lines_give_what_csv_gives(tmp_path):
    rows = [{"photo": "1.jpg", "age": 23, "box": [10, 20, 60, 80]}, {"photo": "2.jpg", "age": 4, "box": None}]
    pd.DataFrame(rows).to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\nnot json\n[1]\n")
    expected = [Photo("1.jpg", 23, box=(10.0, 20.0, 60.0, 80.0)), Photo("2.jpg", 4)]
    assert list(photos(open_folder(tmp_path), Source(str(tmp_path / "labels.parquet")))) == expected
    found = list(photos(open_folder(tmp_path), Source(str(tmp_path / "labels.jsonl"))))
    assert found[:2] == expected
    assert [(entry.path, entry.reason) for entry in found[2:]] == [
        ("(line 4)", Reason.BAD_NAME),
        ("(line 5)", Reason.BAD_NAME),
    ]


def test_columns_of_other_names_are_named(tmp_path):
    names = {"photo": "filename", "age": "years", "person": "who"}
    assert listed(tmp_path, "who,filename,years\nann,1.jpg,7\n", columns=names) == [Photo("1.jpg", 7, person="ann")]


@pytest.mark.parametrize(
    ("age", "years"),
    [("23", 23), (" 23.9 ", 23), ("23,5", 23), ("0", 0), ("0.4", 0), ("120", 120), ("2e1", 20)],
)
def test_an_age_is_in_completed_years(tmp_path, age, years):
    assert only(listed(tmp_path, f"photo;age\n1.jpg;{age}\n")) == Photo("1.jpg", years)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        ("twenty", Reason.BAD_NAME),
        ("", Reason.BAD_NAME),
        ("nan", Reason.BAD_NAME),
        ("inf", Reason.BAD_NAME),
        ("1e400", Reason.BAD_NAME),
        ("-1", Reason.AGE_OUT_OF_RANGE),
        ("-0.5", Reason.AGE_OUT_OF_RANGE),
        ("121", Reason.AGE_OUT_OF_RANGE),
    ],
)
def test_what_is_no_age_is_rejected_with_its_row(tmp_path, age, reason):
    reject = only(listed(tmp_path, f"photo,age\n1.jpg,{age}\n"))
    assert (reject.path, reject.reason) == ("1.jpg", reason)
    assert reject.detail.startswith("row 2: ")


@pytest.mark.parametrize(
    ("birth", "taken", "age"),
    [
        ("1980-05-20", "2010-05-19", 29),
        ("1980-05-20", "2010-05-20", 30),
        ("1980-05-20 00:00:00", "2010-06", 30),
        ("1980-06-30", "2010", 30),
        ("1980-07-01", "2010", 29),
        ("1980", "2010", 30),
    ],
)
def test_an_age_follows_from_birth_and_photo(tmp_path, birth, taken, age):
    assert only(listed(tmp_path, f"photo,birth,taken\n1.jpg,{birth},{taken}\n")) == Photo("1.jpg", age)


def test_each_row_is_accounted_for(tmp_path):
    text = """photo,age,person,split,box
faces\\1.jpg,20,a,train,
./faces/1.jpg,20,a,train,
2.jpg,20,b,train,
2.jpg,31,b,train,
3.jpg,20,c,train,
3.jpg,20,d,train,
C:\\photos\\4.jpg,20,e,train,
../4.jpg,20,e,train,
,20,e,train,
5.jpg,20,e,test,
6.jpg,20,e,train,10 10 5
7.jpg,20,e,train,1 2 30 40,more
8.jpg,20,?,train,"[1, 2, 30, 40]"
"""
    entries = listed(tmp_path, text, splits=("train",))
    assert [(e.path, e.reason.value if isinstance(e, Reject) else "face") for e in entries] == [
        ("faces/1.jpg", "face"),
        ("faces/1.jpg", "duplicate"),
        ("2.jpg", "conflicting_ages"),
        ("2.jpg", "conflicting_ages"),
        ("3.jpg", "bad_name"),
        ("3.jpg", "bad_name"),
        ("C:/photos/4.jpg", "outside_root"),
        ("../4.jpg", "outside_root"),
        ("(row 10)", "bad_name"),
        ("5.jpg", "other_split"),
        ("6.jpg", "bad_name"),
        ("7.jpg", "bad_name"),
        ("8.jpg", "face"),
    ]
    assert entries[2].detail == "row 4 (20) and row 5 (31) name this photo"
    assert entries[-1] == Photo("8.jpg", 20, box=(1.0, 2.0, 30.0, 40.0))


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("file,age\n1.jpg,2\n", {}, "has no column for photo; it has: file, age; say which with --columns photo=NAME"),
        ("photo,years\n1.jpg,2\n", {}, "--columns age=NAME"),
        ("photo,birth\n1.jpg,2\n", {}, "nor for birth and taken"),
        ("photo,age\n1.jpg,2\n", {"person": "who"}, "has no column 'who', which --columns person=who names"),
        ("photo,age\n1.jpg,2\n", {"persn": "who"}, "Did you mean 'person'"),
        ("photo,age,Age\n1.jpg,2,3\n", {"age": "AGE"}, "has 2 columns named 'AGE'"),
        ("", {}, "it has: nothing"),
        ("photo,age\n", {}, "has no rows"),
        ('photo,age\n"1.jpg,2\n', {}, "is a quotation mark not closed?"),
        (b"photo,age\nGr\xfc\xdfe.jpg,2\n", {}, "line 2 is no UTF-8: save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, text, columns, expected):
    file = tmp_path / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=".") as error:
        list(photos(open_folder(tmp_path), Source(str(file), columns)))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.parquet", "none.csv"])
def test_a_file_of_another_kind_is_one_line_that_names_it(tmp_path, name):
    if name != "none.csv":
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        list(read_labels(str(tmp_path / name), {}))


def test_several_folders_become_one_table(tmp_path):
    for name in ("set/part1/20_0_0_20170110225502403.jpg", "set/part2/21_0_0_20170110225502404.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    options = Options("utkface", root=(str(tmp_path / "set/part1"), str(tmp_path / "set/part2")), landmarker="dlib")
    plan = make_plan(options)
    assert plan.root.local == tmp_path / "set"
    assert [photo.path for photo in plan.dataset.photos(plan.root)] == [
        "part1/20_0_0_20170110225502403.jpg",
        "part2/21_0_0_20170110225502404.jpg",
    ]


def test_folders_of_one_bucket_have_a_common_root_and_keep_how_it_is_reached():
    way = "?endpoint_override=127.0.0.1:9000/x"
    root, parts = common_root([Folder(f"s3://bucket/set/{part}{way}") for part in ("a", "b/c")])
    assert (root.name, parts) == (f"s3://bucket/set{way}", ("a", "b/c"))
    seen: list[str] = []
    list(in_parts(lambda folder: iter(seen.append(folder.name) or []), parts)(root))
    assert seen == [f"s3://bucket/set/a{way}", f"s3://bucket/set/b/c{way}"]


@pytest.mark.parametrize(
    "names", [("/a/b", "/a/b/c"), ("/a/b", "/a/b"), ("/a", "s3://bucket/x"), ("s3://one/x", "s3://two/x")]
)
def test_folders_without_a_common_root_are_refused(names):
    with pytest.raises(ValueError, match="--root: "):
        common_root([Folder(name) for name in names])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": ""}, "needs --labels"),
        ({"columns": ("photo",)}, "expected NAME=COLUMN"),
        ({"name": "fgnet"}, "is the name of a known dataset"),
        ({"name": "a/b"}, "--name 'a/b': expected letters"),
        ({"dataset": "utkface"}, "--labels has no effect with utkface"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, changes, expected):
    options = {"dataset": "table", "root": (str(tmp_path),), "labels": "labels.csv", "landmarker": "dlib"} | changes
    with pytest.raises(ValueError, match=".") as error:
        make_plan(Options(**options))
    assert expected in str(error.value)
    assert message(error.value)


def test_a_box_says_which_face_is_meant():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40, 150] = 255
    part = focus(Portrait(pixels), [140.0, 30.0, 160.0, 50.0])
    assert part.corner == (130, 20)
    assert part.pixels.shape == (40, 40, 3)
    assert part.pixels[40 - 20, 150 - 130].tolist() == [255, 255, 255]
    assert focus(Portrait(pixels), None).pixels is pixels
    for outside in ([200.0, 0.0, 220.0, 20.0], [0.0, -30.0, 10.0, 0.0]):
        with pytest.raises(PhotoError, match="outside of the photo's 200x100 pixels"):
            focus(Portrait(pixels), outside)


def test_a_users_photos_become_faces_with_people_sexes_and_groups(tmp_path, capsys, one_ray):
    root = tmp_path / "my photos"
    root.mkdir()
    for name in ("001A02", "001A12", "002A20"):
        (root / f"{name}.JPG").write_bytes((PEOPLE / "images" / f"{name}.JPG").read_bytes())
    labels = "who;filename;years;sex;race\nann;001A02.JPG;2;f;x\nann;001A12.JPG;12;f;x\nbob;002A20.JPG;20;;\n"
    (tmp_path / "labels.csv").write_text("\ufeff" + labels + "bob;missing.jpg;21;;\nbob;001A02.JPG,3\n")
    options = Options(
        "table",
        root=(str(root),),
        out=str(tmp_path / "out"),
        labels=str(tmp_path / "labels.csv"),
        columns=("photo=filename", "age=years", "person=who", "group=race"),
        landmarker="dlib",
        size=64,
        workers=1,
        track=False,
    )
    assert align(options) == 0
    faces = load_faces([tmp_path / "out"], px=64)
    assert faces.photo.tolist() == [f"my-photos/{name}.JPG" for name in ("001A02", "001A12", "002A20")]
    assert faces.person.tolist() == ["my-photos/ann", "my-photos/ann", "my-photos/bob"]
    assert faces.age.tolist() == [2, 12, 20]
    table = pd.concat(pd.read_parquet(file) for file in sorted((tmp_path / "out/faces").glob("*.parquet")))
    table = table.sort_values("photo")
    assert table["sex"].fillna("").tolist() == ["female", "female", ""]
    assert table["group"].fillna("").tolist() == ["x", "x", ""]
    rejects = pd.concat(pd.read_parquet(file) for file in sorted((tmp_path / "out/rejects").glob("*.parquet")))
    assert dict(zip(rejects["photo"], rejects["reason"], strict=True)) == {
        "missing.jpg": "missing",
        "001A02.JPG,3": "bad_name",
    }
    assert "read 5, aligned 3, rejected 2" in capsys.readouterr().out
