"""Values that a picture of report.html shows under the pointer: titles of the marks of an SVG.

An artist's gid is the only thing of it that reaches the SVG, as the id of a group; so the texts travel in it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.figure import Figure

_MARK = "hover:"
_BETWEEN = "|"  # in no text of the report (study.plain)
_SVG = "http://www.w3.org/2000/svg"


def hover(artist: Artist, texts: str | Sequence[str]) -> None:
    """Show one text over the whole artist, or one over each of its markers, in their order."""
    each = [texts] if isinstance(texts, str) else list(texts)
    artist.set_gid(_MARK + _BETWEEN.join(each))


def as_svg(figure: Figure, *, alternative: str, salt: str) -> str:
    """The figure as an <svg> element to stand in HTML, the same bytes for the same figure.

    alternative: what it shows, for those who cannot see it. salt: makes its ids differ from those of another
    picture on the same page.
    """
    sink = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not applied")
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(sink.getvalue())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for number, group in enumerate(root.iter(f"{{{_SVG}}}g")):
        name = group.get("id", "")
        if name.startswith(_MARK):
            _give_titles(group, name.removeprefix(_MARK).split(_BETWEEN))
        # matplotlib numbers its groups alike in every figure
        group.set("id", f"{salt}-{number}")
    root.set("role", "img")
    root.set("aria-label", alternative)
    root.set("width", "100%")
    root.attrib.pop("height", None)
    return ElementTree.tostring(root, encoding="unicode")


def _give_titles(group: ElementTree.Element, texts: Sequence[str]) -> None:
    """A <title> with each text in the marker it belongs to; with one text in the group itself."""
    markers = [*group.iter(f"{{{_SVG}}}use")]
    if len(texts) == 1:
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = texts[0]
        group.insert(0, title)
        return
    if len(markers) != len(texts):
        raise ValueError(f"{len(texts)} texts for {len(markers)} markers, the first {texts[0]!r}")
    for marker, text in zip(markers, texts, strict=True):
        ElementTree.SubElement(marker, f"{{{_SVG}}}title").text = text
