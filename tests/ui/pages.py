"""Opens the study's saved views in Chromium, as a person does who clicks on a printed link, and takes pictures of them.

python -m tests.ui.pages FOLDER --out docs     FOLDER has mlruns/ of a study of the synthetic people
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_START, _SHOWN = 300.0, 120_000
"""Most seconds until the server answers, and milliseconds until a page shows what is waited for: a busy machine's."""


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """`python -m study.ui` on a folder, as a user types it; gives the printed links by their titles."""
    log = folder / "ui.log"
    command = [sys.executable, "-m", "study.ui", str(folder), "--port", "0"]
    with log.open("w") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield links_of(process, log)
    finally:
        process.terminate()
        process.wait(60)


def links_of(process: subprocess.Popen, log: Path) -> dict[str, str]:
    until = time.monotonic() + _START
    while time.monotonic() < until and process.poll() is None:
        found = dict(re.findall(r"^  (\S.*)\n    (http\S+)$", log.read_text(), flags=re.M))
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"study.ui printed no link: {log.read_text()}")


@contextmanager
def browser() -> Iterator[Any]:
    """A fresh browser's page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_context(viewport={"width": 1500, "height": 950}).new_page()
        page.set_default_timeout(_SHOWN)
        try:
            yield page
        finally:
            chromium.close()


def read(page: Any, link: str, *, wait: str, picture: Path | None = None) -> str:
    """The text of a page once it shows `wait`; picture: where it is kept as PNG."""
    for attempt in range(30):
        try:
            page.goto("about:blank")
            page.goto(link)
            break
        except Exception:  # the server prints its links before it has imported MLflow's page
            if attempt == 29:
                raise
            time.sleep(2)
    page.get_by_text(wait).first.wait_for()
    page.wait_for_timeout(1500)  # charts are drawn after their frames
    if picture is not None:
        page.wait_for_timeout(8000)  # parallel coordinates come last
        page.screenshot(path=str(picture))
        with Image.open(picture) as full:
            full.convert("RGB").quantize(256).save(picture, optimize=True)
    return str(page.inner_text("body"))


def main() -> None:
    """Pictures for docs/tracking.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    asked = parser.parse_args()
    with served(asked.folder) as links, browser() as page:
        for start, name in (("Trials by MAE", "trials"), ("Does λ2", "lambda2")):
            link = next(link for title, link in links.items() if title.startswith(start))
            read(page, link, wait="matching run", picture=asked.out / f"tracking_{name}.png")


if __name__ == "__main__":
    main()
