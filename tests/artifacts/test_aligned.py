"""align.json says how a table was made: it comes back as written, and anything else is one line."""

import json
import re
from dataclasses import asdict, replace

import pytest

from study.artifacts.aligned import Recipe, TableRecord
from study.files.storage import open_folder

RECIPE = Recipe(
    "fgnet", "dlib", "abc", "cpu", "float32", "tight-5", ((0.25, 0.5), (0.75, 0.5)), 256, 95, ("as is",), 256, "0a1b"
)
RECORD = TableRecord(RECIPE, True, "s3://photos", {"numpy": "2.0.0"}, 12, {"aligned": 10, "no_face": 2})


def test_a_record_comes_back_as_it_was_written(tmp_path):
    for record in (RECORD, TableRecord(RECIPE)):
        record.write(open_folder(tmp_path))
        assert TableRecord.load(open_folder(tmp_path)) == record
    assert Recipe.from_json(json.loads(json.dumps(asdict(RECIPE)))) == RECIPE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alignment": None}, "alignment is null, expected an object"),
        ({"alignment": {"dataset": "fgnet"}}, "alignment.landmarker is missing"),
        ({"alignment": asdict(RECIPE) | {"size": "256"}}, "alignment.size is the text '256', expected a whole number"),
        (
            {"alignment": asdict(RECIPE) | {"points": [["x"]]}},
            "alignment.points is a list of 1, expected a list that holds",
        ),
        ({"alignment": asdict(RECIPE) | {"sise": 256}}, "alignment has no field 'sise'. Did you mean 'size'?"),
        ({"counts": {"aligned": "10"}}, "counts is an object, expected an object that holds a whole number each time"),
        ({"complete": 1}, "complete is 1, expected true or false"),
        ({"version": 2}, "version is 2, expected 1"),
    ],
    ids=range(8),
)
def test_another_record_is_one_line_that_names_file_and_field(changes, said, tmp_path):
    RECORD.write(open_folder(tmp_path))
    written = json.loads((tmp_path / "align.json").read_text())
    (tmp_path / "align.json").write_text(json.dumps(written | changes))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/align.json is damaged ({said}")) as error:
        TableRecord.load(open_folder(tmp_path))
    assert "\n" not in str(error.value)


def test_a_record_of_an_earlier_version_is_read_and_differs_by_name(tmp_path):
    earlier = {name: value for name, value in asdict(RECIPE).items() if name not in ("device", "dtype")}
    (tmp_path / "align.json").write_text(json.dumps({"alignment": earlier, "complete": True}))
    found = TableRecord.load(open_folder(tmp_path))
    assert (found.complete, found.root, found.counts) == (True, None, {})
    assert found.alignment.differences(RECIPE) == "device '' there, 'cpu' now, dtype '' there, 'float32' now"
    assert RECIPE.differences(replace(RECIPE, size=64)) == "size 256 there, 64 now"
    assert RECIPE.differences(RECIPE) == ""
