"""IMDB-WIKI's .mat is read whole, fast and in little memory; each row becomes a photo with its age, or a reject."""

import csv
import datetime
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from study.align.datasets import DATASETS
from study.align.datasets.imdbwiki import age_in
from study.align.datasets.matlab import read_struct
from study.files.storage import open_folder
from study.landmarks.photos import Photo, Reason, Reject

NAMES = Path(__file__).parents[2] / ".." / "shared" / "data" / "imdb_names.csv"
ROWS = 523_051


def datenum(year: int, month: int, day: int) -> int:
    """MATLAB's datenum: months below 1 count as 1, day 0 is the day before the first."""
    return datetime.date(year, max(month, 1), 1).toordinal() + 366 + day - 1


def cells(values: list) -> np.ndarray:
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


def save(path: Path, part: str, **changed: list) -> Path:
    """A .mat with the real struct's layout, written by SciPy; columns as given, the rest filled in."""
    rows = len(next(iter(changed.values())))
    numbers = {"dob": np.int32, "photo_taken": np.uint16}
    columns = {
        "dob": [datenum(1950, 3, 1)] * rows,
        "photo_taken": [2000] * rows,
        "full_path": [f"00/nm{i:07}_rm{i}_1950-3-1_2000.jpg" for i in range(rows)],
        "gender": [np.nan] * rows,
        "name": ["Bjørk Гагарин 王"] * rows,
        "face_location": [np.array([[1.0, 2.0, 30.0, 40.0]])] * rows,
        "face_score": [3.0] * rows,
        "second_face_score": [np.nan] * rows,
    } | changed
    if part == "imdb":
        columns |= {"celeb_names": ["A", "B"], "celeb_id": [1.0] * rows}
    table = {
        name: cells(column)
        if name in ("full_path", "name", "face_location", "celeb_names")
        else np.array([column], dtype=numbers.get(name, np.float64))
        for name, column in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {part: table}, do_compression=True)
    return path


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind: int, shape: tuple[int, int], content: bytes, name: bytes = b"") -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape)) + element(1, name)
    return element(14, head + content)


def big_mat(columns: dict[str, np.ndarray | list[str]]) -> bytes:
    """A compressed v5 file of one struct `imdb`, as SciPy would write it, but in seconds."""
    types = {"i4": (5, 12), "u2": (4, 11), "f8": (9, 6)}
    fields = []
    for column in columns.values():
        if isinstance(column, list):
            texts = [matrix(4, (1, len(text)), element(16, text.encode())) for text in column]
            fields.append(matrix(1, (1, len(column)), b"".join(texts)))
        else:
            number, kind = types[column.dtype.str[1:]]
            fields.append(matrix(kind, (1, len(column)), element(number, column.tobytes())))
    names = b"".join(name.encode().ljust(32, b"\0") for name in columns)
    body = matrix(2, (1, 1), struct.pack("<HHi", 5, 4, 32) + element(1, names) + b"".join(fields), b"imdb")
    packed = zlib.compress(body, 1)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed


def real_names() -> list[tuple[str, int, int, int, int]]:
    """(file name, datenum, birth month of that datenum, year of the photo, the file's own age)."""
    rows = []
    with NAMES.open() as file:
        for row in csv.DictReader(file):
            date = re.fullmatch(r".*_(\d+)-(\d+)-(\d+)_(\d+)\.jpg", row["file_name"])
            assert date is not None
            year, month, day, taken = map(int, date.groups())
            birth = datenum(year, month, day)
            born = datetime.date.fromordinal(birth - 366)
            rows.append((row["file_name"], birth, born.month, taken, int(row["age"])))
    return rows


def columns_of(names: list[tuple[str, int, int, int, int]], rows: int) -> dict[str, np.ndarray | list[str]]:
    many = [names[i % len(names)] for i in range(rows)]
    paths = [f"{i // len(names):02}/{row[0]}" for i, row in enumerate(many)]
    return {
        "dob": np.array([row[1] for row in many], np.int32),
        "photo_taken": np.array([row[3] for row in many], np.uint16),
        "full_path": paths,
        "gender": np.ones(rows),
        "name": ["Fred Astaire"] * rows,
        "face_score": np.full(rows, 2.5),
        "second_face_score": np.full(rows, np.nan),
    }


@pytest.mark.skipif(not NAMES.is_file(), reason="the real names are not on this machine")
def test_all_523051_rows_within_60_seconds_and_2_gigabytes(tmp_path):
    """Half with IMDB's names, half with WIKI's; each part rejects the other's, whose names it cannot parse."""
    names = real_names()
    assert len(names) == 9150
    (tmp_path / "imdb.mat").write_bytes(big_mat(columns_of(names, ROWS)))
    code = (
        # VmHWM: getrusage's peak would be that of this test process, which a child inherits
        "import time; from study.align.listing import list_photos; from study.align.datasets import DATASETS;"
        "from study.files.storage import open_folder; start = time.process_time();"
        f"photos, rejects = list_photos(DATASETS['imdb'], open_folder({str(tmp_path)!r}));"
        "print(photos.num_rows, len(rejects), time.process_time() - start,"
        " next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    photos, rejects, seconds, memory = map(float, done.stdout.split())
    of_imdb = sum(1 for i in range(ROWS) if names[i % len(names)][0].startswith("nm"))
    assert (photos, rejects) == (of_imdb, ROWS - of_imdb)
    assert seconds < 60
    assert memory < 2e9


@pytest.mark.skipif(not NAMES.is_file(), reason="the real names are not on this machine")
@pytest.mark.parametrize("part", ["imdb", "wiki"])
def test_ages_of_the_real_names(tmp_path, part):
    """The file's ages are plain differences of years; by our rule, people born from July on are a year younger."""
    names = [row for row in real_names() if row[0].startswith("nm") == (part == "imdb")]
    fields = columns_of(names, len(names))
    save(tmp_path / part / f"{part}.mat", part, **{name: list(column) for name, column in fields.items()})
    photos = list(DATASETS[part].photos(open_folder(tmp_path)))
    assert all(isinstance(photo, Photo) for photo in photos)
    assert [photo.path for photo in photos] == [f"{part}/00/{row[0]}" for row in names]
    assert [photo.age for photo in photos] == [row[4] - (row[2] >= 7) for row in names]
    assert [photo.person for photo in photos] == [row[0].split("_")[0] for row in names]


def test_our_writer_of_large_files_agrees_with_scipy(tmp_path):
    columns = {
        "dob": np.array([7, -9], np.int32),
        "full_path": ["a", "bcdefghi"],
        "face_score": np.array([0.5, np.inf]),
    }
    (tmp_path / "x.mat").write_bytes(big_mat(columns))
    read = scipy.io.loadmat(tmp_path / "x.mat", squeeze_me=True)["imdb"].item()
    assert [read[0].tolist(), read[1].tolist(), read[2].tolist()] == [[7, -9], ["a", "bcdefghi"], [0.5, np.inf]]


@pytest.mark.parametrize("compressed", [True, False])
def test_columns_are_what_scipy_reads(tmp_path, compressed):
    path = save(tmp_path / "imdb.mat", "imdb", face_score=[1.5, -np.inf, np.nan], photo_taken=[1999, 0, 65535])
    if not compressed:
        loaded = scipy.io.loadmat(path)["imdb"]
        scipy.io.savemat(path, {"other": np.eye(3), "imdb": loaded}, do_compression=False)
    read = read_struct(path.read_bytes(), name="imdb", columns=["face_score", "photo_taken", "name", "face_location"])
    expected = scipy.io.loadmat(path, squeeze_me=True)["imdb"][()]
    assert np.array_equal(read["face_score"], expected["face_score"], equal_nan=True)
    assert np.array_equal(read["photo_taken"], expected["photo_taken"])
    assert read["name"] == expected["name"].tolist()
    assert read["face_location"] == ["", "", ""]


def test_each_row_has_its_fate(tmp_path):
    good = datenum(1950, 3, 1)
    rows = {
        "00/nm0000001_rm1_1950-3-1_2000.jpg": (good, 2000, 3.0, np.nan, 50),
        "00/nm0000001_rm2_1950-8-1_2000.jpg": (datenum(1950, 7, 1), 2000, 1.0, np.nan, 49),
        "00/nm0000002_rm3_1950-6-30_2000.jpg": (datenum(1950, 6, 30), 2000, 3.0, np.nan, 50),
        "00/nm0000003_rm4_2031-1-1_2000.jpg": (datenum(2031, 1, 1), 2000, 3.0, np.nan, Reason.AGE_OUT_OF_RANGE),
        "00/nm0000003_rm5_0-0-0_2014.jpg": (0, 2014, 3.0, np.nan, Reason.AGE_OUT_OF_RANGE),
        "00/nm0000004_rm6_1900-1-1_2000.jpg": (datenum(1900, 1, 1), 2000, 3.0, np.nan, 100),
        "00/nm0000004_rm7_1899-1-1_2000.jpg": (datenum(1899, 1, 1), 2000, 3.0, np.nan, Reason.AGE_OUT_OF_RANGE),
        "00/nm0000005_rm8_1950-3-1_2000.jpg": (good, 2000, -np.inf, np.nan, Reason.NO_FACE_IN_METADATA),
        "00/nm0000005_rm9_1950-3-1_2000.jpg": (good, 2000, np.nan, np.nan, Reason.NO_FACE_IN_METADATA),
        "00/nm0000006_rm10_1950-3-1_2000.jpg": (good, 2000, 0.99, np.nan, Reason.LOW_FACE_SCORE),
        "00/nm0000006_rm11_1950-3-1_2000.jpg": (good, 2000, 3.0, 0.1, Reason.SECOND_FACE),
        "../../etc/nm0000007_rm12_1950-3-1_2000.jpg": (good, 2000, 3.0, np.nan, Reason.OUTSIDE_ROOT),
        "/etc/nm0000007_rm13_1950-3-1_2000.jpg": (good, 2000, 3.0, np.nan, Reason.OUTSIDE_ROOT),
        "00\\..\\..\\nm0000007_rm14_1950-3-1_2000.jpg": (good, 2000, 3.0, np.nan, Reason.OUTSIDE_ROOT),
        "00/family.jpg": (good, 2000, 3.0, np.nan, Reason.BAD_NAME),
        "00/nm0000008_rm15_1950-3-1_2000.jpg": (2**31 - 1, 2000, 3.0, np.nan, Reason.BAD_NAME),
    }
    dob, taken, score, second, _ = zip(*rows.values(), strict=True)
    save(
        tmp_path / "imdb.mat", "imdb", full_path=list(rows), dob=list(dob), photo_taken=list(taken),
        face_score=list(score), second_face_score=list(second),
    )  # fmt: skip
    entries = list(DATASETS["imdb"].photos(open_folder(tmp_path)))
    fates = {e.path: e.age if isinstance(e, Photo) else e.reason for e in entries}
    assert fates == {path: row[4] for path, row in rows.items()}


def test_a_row_given_twice_counts_once(tmp_path):
    path = "07/12345_1950-03-01_2000.jpg"
    save(tmp_path / "wiki.mat", "wiki", full_path=[path, path])
    first, second = DATASETS["wiki"].photos(open_folder(tmp_path))
    assert first == Photo(path, 50, "12345")
    assert isinstance(second, Reject)
    assert second.reason is Reason.DUPLICATE


def test_age_is_that_of_mid_year():
    for month in range(1, 13):
        birth = datenum(1980, month, 15)
        assert age_in(2000.0, birth=float(birth)) == (20 if month < 7 else 19)
    assert age_in(float("nan"), birth=700000.0) is None
    assert age_in(2000.0, birth=float("inf")) is None


@pytest.mark.parametrize("broken", ["empty", "text", "cut", "scalar", "short column", "no rows", "text for numbers"])
def test_a_broken_mat_is_one_line_that_names_it(tmp_path, broken):
    path = save(tmp_path / "imdb.mat", "imdb", dob=[700000] * 3)
    if broken == "empty":
        path.write_bytes(b"")
    elif broken == "text":
        path.write_text("hello " * 100)
    elif broken == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif broken == "scalar":
        scipy.io.savemat(path, {"imdb": 3.0})
    elif broken == "short column":
        save(path, "imdb", dob=[700000] * 3, face_score=[1.0])
    elif broken == "no rows":
        save(path, "imdb", dob=[])
    else:
        scipy.io.savemat(path, {"imdb": {n: cells(["x"]) for n in ("dob", "photo_taken", "full_path", "face_score", "second_face_score")}})  # fmt: skip  # noqa: E501
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        list(DATASETS["imdb"].photos(open_folder(tmp_path)))
    assert "\n" not in str(error.value)


def test_counts_of_reasons_are_those_of_the_rows(tmp_path):
    save(tmp_path / "imdb_crop" / "imdb.mat", "imdb", face_score=[2.0, -np.inf, 0.5, 2.0], second_face_score=[np.nan, np.nan, 2, 2])  # fmt: skip  # noqa: E501
    entries = list(DATASETS["imdb"].photos(open_folder(tmp_path)))
    reasons = Counter(e.reason for e in entries if isinstance(e, Reject))
    assert reasons == {Reason.NO_FACE_IN_METADATA: 1, Reason.LOW_FACE_SCORE: 1, Reason.SECOND_FACE: 1}


def columns_by_hand(rows: int) -> dict[str, np.ndarray]:
    texts = np.empty(rows, dtype=object)
    texts[:] = [f"00/{i}{'0' * (i % 3)}_1950-03-01_2000.jpg" for i in range(rows)]
    return {
        "dob": np.full(rows, float(datenum(1950, 3, 1))),
        "photo_taken": np.full(rows, 2000.0),
        "full_path": texts,
        "face_score": np.full(rows, 3.0),
        "second_face_score": np.full(rows, np.nan),
    }


def as_records(columns: dict[str, np.ndarray]) -> np.ndarray:
    kinds = [(name, "O" if column.dtype == object else "f8") for name, column in columns.items()]
    return np.array(list(zip(*columns.values(), strict=True)), dtype=kinds)


SAVED_AGAIN = {
    "columns": lambda c: {"wiki": c},
    "columns that stand": lambda c: {"wiki": {name: column.reshape(-1, 1) for name, column in c.items()}},
    "text as a matrix": lambda c: {"wiki": c | {"full_path": c["full_path"].astype(str)}},
    "an array of structs": lambda c: {"wiki": as_records(c)},
    "without a struct": lambda c: c,
    "more columns": lambda c: {"wiki": {"name": c["full_path"], "gender": np.ones(len(c["dob"]))} | c},
}


@pytest.mark.parametrize("how", SAVED_AGAIN)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_wiki_filtered_and_saved_again_by_scipy_is_read(tmp_path, how, packed, rows):
    columns = columns_by_hand(rows)
    scipy.io.savemat(tmp_path / "wiki.mat", SAVED_AGAIN[how](columns), do_compression=packed)
    photos = list(DATASETS["wiki"].photos(open_folder(tmp_path)))
    assert [(photo.path, photo.age) for photo in photos] == [(path, 50) for path in columns["full_path"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(500), "'-v7'"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "'-v7'"),
        (b"<!DOCTYPE html><html>" + bytes(500), "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"", "an empty file"),
    ],
    ids=range(5),
)
def test_the_error_for_another_file_named_mat_says_what_it_is(tmp_path, content, said):
    (tmp_path / "wiki.mat").write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        list(DATASETS["wiki"].photos(open_folder(tmp_path)))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
