"""report.html: one file, which asks for nothing, and holds the report's tables, values and pictures."""

import csv
import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from study.report import command as report
from study.report import tables
from study.report.hover import as_svg, hover
from study.table import NONE, table
from tests.report.test_report import Result, about, predictions, sections

pytestmark = pytest.mark.slow  # draws a whole page

RESULTS = [
    Result("lopo b0", about(), predictions(rng=1)),
    Result("lopo 34", about("resnet34"), predictions(rng=3, noise=8.0)),
]


class Page(HTMLParser):
    """What a page asks for, its tables, and its titles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []
        self.opened: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = ("src", "href", "xlink:href", "data", "action", "poster", "srcset")
        self.asked += [value or "" for name, value in attrs if name in named]


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    written = report.write_report(RESULTS, out=tmp_path_factory.mktemp("report"), draws=200)
    return written.files[1].read_text()


def test_the_page_asks_nothing_of_any_server_and_is_small(html):
    page = Page(html)
    assert page.asked, "links within the page, and the saved tables"
    assert all(each.startswith(("#", "data:")) for each in page.asked)
    assert not re.search(r"@import|url\((?!#)", html), "neither fonts nor pictures from elsewhere"
    assert "default-src 'none'" in html
    assert len(html) < 5_000_000
    assert page.tags.count("svg") == len(report.PICTURES)


def test_the_page_has_every_table_of_the_markdown_report(html):
    (section,) = sections(RESULTS, draws=200)
    for each in (tables.mae_table(section), tables.cs_table(section), tables.config_table(section)):
        assert each.html() in html
    assert "<h2" in html
    assert "MAE" in html


def test_each_mark_of_a_picture_tells_its_value(html):
    (section,) = sections(RESULTS, draws=200)
    pictures = [ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", html, re.DOTALL)]
    titles = [title.text for picture in pictures for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert f"EfficientNet-B0: {section.summaries['EfficientNet-B0'].mae:.2f}" in titles
    assert "ResNet-34, the paper: 3.02" in titles
    assert f"CS(5) = {section.summaries[section.leader].cs.value[5]:.1f} %" in titles
    leader = section.results[section.leader].predictions
    assert sum(": " in str(t) and "predicted" in str(t) for t in titles) == leader.photos


def test_ids_of_the_pages_pictures_are_apart(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_same_results_give_the_same_page(html, tmp_path):
    assert report.write_report(RESULTS, out=tmp_path, draws=200).files[1].read_text() == html


def test_a_table_is_saved_as_csv_and_latex():
    made = table("mae", ["name", "MAE, 95 %"], [["a_b & c", "3.20"], ['"d"', NONE]])
    assert list(csv.reader(io.StringIO(made.csv()))) == [["name", "MAE, 95 %"], ["a_b & c", "3.20"], ['"d"', ""]]
    assert r"a\_b \& c & 3.20 \\" in made.latex()
    assert r"name & MAE, 95 \% \\" in made.latex()
    assert [made.latex().count(rule) for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
    saved = re.findall(r'download="(mae\.\w+)" href="data:[^,]+,([^"]+)"', made.html())
    assert {name: b64decode(content).decode() for name, content in saved} == {
        "mae.csv": made.csv(),
        "mae.tex": made.latex(),
    }


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells below a header of 2"):
        table("mae", ["a", "b"], [["c"]])


def test_texts_that_belong_to_no_marker_are_refused():
    figure = Figure()
    (line,) = figure.subplots().plot([1, 2, 3], [1, 2, 3], "o")
    hover(line, ["one", "two"])
    with pytest.raises(ValueError, match="2 texts for 3 markers"):
        as_svg(figure, alternative="a line", salt="s")
