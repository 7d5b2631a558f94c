"""report.html: the report as one file that asks nothing of any server, for small and large screens, light and dark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from markdown_it import MarkdownIt

from study.report.document import TITLE, Picture, blocks, start
from study.report.sections import Section
from study.table import Table

_PARSER = MarkdownIt("commonmark")


def page(sections: Sequence[Section], pictures: Sequence[Mapping[str, str]]) -> str:
    """report.html; its content depends on the results alone. pictures: for each section, its <svg> elements by kind."""
    body = [_PARSER.render(part) for part in start(sections)]
    contents = []
    for number, (section, drawn) in enumerate(zip(sections, pictures, strict=True)):
        parts = [_html(block, drawn) for block in blocks(section)]
        heading = re.search("<h2>(.*?)</h2>", parts[0])
        assert heading, "a section starts with its title"
        parts[0] = parts[0].replace("<h2>", f'<h2 id="section-{number}">', 1)
        contents.append(f'<li><a href="#section-{number}">{heading[1]}</a></li>')
        body += ["<section>", *parts, "</section>"]
    if len(contents) > 1:
        body.insert(len(start(sections)), f"<nav><ul>{''.join(contents)}</ul></nav>")
    look, behave = (files("study.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # the browser refuses what is not in this file, whatever a record may hold
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(TITLE)}</title>\n<style>\n{look}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>\n{behave}</script>\n</body>\n</html>\n"
    )


def _html(block: str | Table | Picture, drawn: Mapping[str, str]) -> str:
    if isinstance(block, Table):
        return block.html()
    if isinstance(block, Picture):
        return f"<figure>{drawn[block.kind]}</figure>"
    return _PARSER.render(block)
