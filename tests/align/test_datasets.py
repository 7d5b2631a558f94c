"""Parsers yield each photo once with the age its name gives, and say what is wrong with a folder."""

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from study.align.datasets import DATASETS
from study.align.listing import list_photos
from study.files.storage import Folder, open_folder
from study.landmarks.photos import Photo, Reason, Reject

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
FGNET, UTKFACE, AAF = DATA / "fgnet", DATA / "utkface", DATA / "aaf"
real = pytest.mark.skipif(not FGNET.is_dir(), reason="the real datasets are not on this machine")


def folder_with(root: Path, *names: str) -> Folder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return open_folder(root)


@real
def test_fgnet_is_1002_photos_of_82_people_aged_0_to_69():
    photos = list(DATASETS["fgnet"].photos(open_folder(FGNET)))
    assert all(isinstance(photo, Photo) for photo in photos)
    people = Counter(photo.person for photo in photos)
    assert (len(photos), len(people)) == (1002, 82)
    assert (min(people.values()), max(people.values())) == (6, 18)
    assert (people["064"], people["076"]) == (6, 18)
    assert {photo.age for photo in photos} <= set(range(70))
    assert [photo.path for photo in photos] == sorted(photo.path for photo in photos)
    assert len({photo.points for photo in photos}) == 1002
    assert all((FGNET / photo.points).is_file() for photo in photos)
    by_age = Counter((photo.person, photo.age) for photo in photos)
    shots = {photo.path[-5].lower() for photo in photos if by_age[photo.person, photo.age] > 1}
    assert shots == {"a", "b"}


def test_fgnet_names_come_in_either_case_and_are_listed_once(tmp_path):
    names = ["images/001A02.JPG", "images/001a43A.jpg", "images/001A43b.JPG", "images/002A10.jpeg"]
    root = folder_with(tmp_path, *names, "images/Thumbs.db", "points/001a43a.pts", "points/001A02.PTS")
    photos = [photo for photo in DATASETS["fgnet"].photos(root) if isinstance(photo, Photo)]
    assert [(p.path, p.person, p.age) for p in photos] == [
        ("images/001A02.JPG", "001", 2),
        ("images/001A43b.JPG", "001", 43),
        ("images/001a43A.jpg", "001", 43),
        ("images/002A10.jpeg", "002", 10),
    ]
    assert [p.points for p in photos] == ["points/001A02.PTS", "", "points/001a43a.pts", ""]


def test_a_stray_photo_among_good_ones_is_rejected_by_name(tmp_path):
    root = folder_with(tmp_path, "images/001A02.JPG", "images/holiday.jpg")
    (reject,) = [entry for entry in DATASETS["fgnet"].photos(root) if isinstance(entry, Reject)]
    assert (reject.path, reject.reason) == ("images/holiday.jpg", Reason.BAD_NAME)


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("100_1_0_20170110183726390.jpg.chip.jpg", 100),
        ("39_1_20170116174525125.jpg.chip.jpg", 39),
        ("61_1_20170109142408075.jpg.chip.jpg", 61),
        ("61_1_20170109150557335.jpg.chip.jpg", 61),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", 24),
        ("55_0_0_20170116232725357jpg.chip.jpg", 55),
        ("53__0_20170116184028385.jpg", 53),
        ("1_0_2_20161219140.jpg", 1),
        ("8_1_4_2017011719.JPG", 8),
        ("0_0_3_20170104010203456.jpg.chip.jpg", 0),
        ("61_3_20170109150557335.jpg.chip.jpg", 61),
        ("25_0_1_20170116220224657 (1).jpg", 25),
        ("25_0_1_20170116220224657.jpg.chip (2).jpg", 25),
        ("25_0_1_20170116220224657 - Copy.jpg", 25),
        ("25_0_1_20170116220224657-1.png", 25),
    ],
)
def test_utkface_ages_survive_its_odd_names(tmp_path, name, age):
    (photo,) = DATASETS["utkface"].photos(folder_with(tmp_path, name))
    assert (photo.path, photo.age, photo.person) == (name, age, "")


@pytest.mark.parametrize(
    ("name", "sex", "group"),
    [
        ("24_0_1_20170116220224657 .jpg.chip.jpg", "male", "black"),
        ("1_1_0_20161219140.jpg", "female", "white"),
        ("8_1_4_2017011719.JPG", "female", "other"),
        ("53__2_20170116184028385.jpg", "", "asian"),
        ("39_1_20170116174525125.jpg.chip.jpg", "", ""),
        ("9_3_3_20170116174525125.jpg", "", "indian"),
    ],
)
def test_utkface_names_give_sex_and_group_where_it_is_clear_which_code_is_which(tmp_path, name, sex, group):
    (photo,) = DATASETS["utkface"].photos(folder_with(tmp_path, name))
    assert (photo.sex, photo.group) == (sex, group)


def test_utkface_in_the_wild_lies_in_three_parts(tmp_path):
    names = ["part1/20_0_0_20170110225502403.jpg", "part3/21_0_0_20170110225502404.jpg", "9_0_0_20170110225502405.jpg"]
    root = folder_with(tmp_path, *names, "part4/22_0_0_20170110225502406.jpg")
    photos = {entry.path: entry.age for entry in DATASETS["utkface"].photos(root) if isinstance(entry, Photo)}
    assert photos == {names[0]: 20, names[1]: 21, names[2]: 9}


def test_utkface_rejects_names_without_an_age_and_ages_beyond_life(tmp_path):
    root = folder_with(tmp_path, "12_0_0_20170110225502403.jpg", "face.jpg", "201_0_0_20170110225502403.jpg")
    rejects = {e.path: e.reason for e in DATASETS["utkface"].photos(root) if isinstance(e, Reject)}
    assert rejects == {"face.jpg": Reason.BAD_NAME, "201_0_0_20170110225502403.jpg": Reason.AGE_OUT_OF_RANGE}


@real
@pytest.mark.slow
def test_every_real_utkface_name_gives_its_leading_number():
    photos = list(DATASETS["utkface"].photos(open_folder(UTKFACE)))
    names = sorted(path.name for path in UTKFACE.iterdir())
    assert [photo.path for photo in photos] == names
    assert [photo.age for photo in photos] == [int(name.split("_")[0]) for name in names]


@pytest.mark.parametrize("folder", ["All-Age-Faces Dataset/original images/", "original images/", ""])
def test_aaf_is_found_however_it_was_unpacked_and_the_authors_crops_are_left_out(tmp_path, folder):
    names = [f"{folder}00000A02.jpg", f"{folder}13321A80.jpg"]
    crops = folder.replace("original images", "aglined faces")
    root = folder_with(tmp_path, *names, *([f"{crops}00000A02.jpg"] if folder else []))
    assert list(DATASETS["aaf"].photos(root)) == [
        Photo(names[0], 2, sex="female"),
        Photo(names[1], 80, sex="male"),
    ]


def test_aaf_rejects_other_names_and_ages_beyond_life(tmp_path):
    root = folder_with(tmp_path, "00000A02.jpg", "00001B02.jpg", "00002A121.jpg")
    rejects = {e.path: e.reason for e in DATASETS["aaf"].photos(root) if isinstance(e, Reject)}
    assert rejects == {"00001B02.jpg": Reason.BAD_NAME, "00002A121.jpg": Reason.AGE_OUT_OF_RANGE}


@real
def test_every_real_aaf_name_gives_its_age():
    photos = list(DATASETS["aaf"].photos(open_folder(AAF)))
    assert len(photos) == len(list((AAF / "original images").iterdir()))
    assert [photo.age for photo in photos] == [int(photo.path[-6:-4]) for photo in photos]
    assert (min(photo.age for photo in photos), max(photo.age for photo in photos)) == (2, 80)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
@pytest.mark.parametrize("content", [[], ["images/holiday.jpg", "holiday.jpg"], ["images/readme.txt"]])
def test_a_folder_of_something_else_is_an_error_that_names_the_folder(tmp_path, dataset, content):
    root = folder_with(tmp_path, *content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        list(dataset.photos(root))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@real
def test_each_datasets_folder_is_refused_by_the_others():
    for own, root in (("fgnet", FGNET), ("utkface", UTKFACE), ("aaf", AAF)):
        for other in DATASETS.values():
            if other.photos is not DATASETS[own].photos:
                with pytest.raises((ValueError, FileNotFoundError)):
                    list(other.photos(open_folder(root)))


@pytest.mark.parametrize("dataset", ["fgnet", "utkface"])
def test_a_name_that_is_no_utf8_is_rejected_and_the_others_are_listed(tmp_path, dataset):
    folder, good = {"fgnet": ("images/", "001A02.JPG"), "utkface": ("", "20_0_0_20170110225502403.jpg")}[dataset]
    root = folder_with(tmp_path, folder + good)
    strange = os.fsencode(good).replace(b".", b"\xe9.")
    (tmp_path / folder / os.fsdecode(strange)).touch()
    listing, rejects = list_photos(DATASETS[dataset], root)
    assert listing["photo"].to_pylist() == [folder + good]
    (reject,) = rejects
    assert (reject.path, reject.reason) == (folder + good.replace(".", "\\xe9."), Reason.BAD_NAME)
    assert pa.array([reject.path, reject.detail]).to_pylist()[0] == reject.path, "Arrow can hold it"
    assert "UTF-8" in reject.detail


def test_a_folder_whose_name_is_no_utf8_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"photos\\xe9 has a name that is no UTF-8"):
        open_folder(os.fsdecode(os.fsencode(tmp_path) + b"/photos\xe9"))
