"""Take the pictures of what runs: the drawing page, a report, and a finished run in Prefect.

    python docs/take_screenshots.py [--out docs] [--prefect http://127.0.0.1:4200]

It needs Debian's Chromium and the champion's report; with --prefect, a server that has run the
flow pipeline, whose last run is shown.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
COLOURS = 256
FOUR = [  # in shares of the paper
    [(0.71, 0.21), (0.31, 0.60), (0.45, 0.595), (0.60, 0.59), (0.77, 0.575)],
    [(0.71, 0.21), (0.67, 0.42), (0.63, 0.60), (0.57, 0.82)],
]


@contextmanager
def demo() -> Iterator[str]:
    """The drawing page's address, while it is served."""
    command = [sys.executable, "-m", "nnpipe.cli", "demo", "--no-open", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield next(re.findall(r"http://\S+\d", line)[0] for line in process.stderr or ())
        finally:
            process.terminate()


def draw(page: Page, address: str) -> None:
    """Draw a 4, and ask why it is not a 9."""
    page.goto(address)
    page.wait_for_selector("#answer[data-kind]")
    paper = page.locator("#canvas").bounding_box()
    if not paper:
        sys.exit("the page shows no canvas")
    for stroke in FOUR:
        for number, (x, y) in enumerate(stroke):
            place = paper["x"] + x * paper["width"], paper["y"] + y * paper["height"]
            page.mouse.move(*place, steps=12 if number else 1)
            if not number:
                page.mouse.down()
        page.mouse.up()
    page.wait_for_selector("#answer:not([aria-busy=true])")
    page.locator("#bars button").nth(9).click()
    page.get_by_text("Why 4 and not 9?").wait_for()
    page.mouse.move(5, 5)
    page.wait_for_timeout(1000)  # till what moves stands still


def open_last_run(page: Page, server: str) -> None:
    """The page of the last finished run of the flow pipeline."""
    asked = {
        "sort": "END_TIME_DESC",
        "limit": 1,
        "flows": {"name": {"any_": ["pipeline"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    (run,) = page.request.post(f"{server}/api/flow_runs/filter", data=asked).json()
    page.goto(f"{server}/runs/flow-run/{run['id']}")
    page.wait_for_timeout(8000)  # till the graph is laid out
    page.get_by_text("Artifacts", exact=True).click()
    page.wait_for_timeout(2000)


def save(page: Page, path: Path) -> None:
    """Keep what is seen as a small PNG."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size)


def new_page(browser: Browser, width: int, height: int, scale: float = 1) -> Page:
    """A window of that size, shown smaller by ``scale``."""
    viewport = {"width": width, "height": height}
    return browser.new_page(viewport=viewport, device_scale_factor=scale)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--prefect", metavar="URL", help="a server, for a picture of its last run")
    chosen = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with demo() as address:
            page = new_page(browser, 1280, 800)
            draw(page, address)
            save(page, chosen.out / "demo.png")
        page = new_page(browser, 1120, 1240, 0.8)
        page.goto((ROOT / "reports/champion/report.html").as_uri())
        save(page, chosen.out / "report.png")
        if chosen.prefect:
            page = new_page(browser, 1280, 800)
            open_last_run(page, chosen.prefect)
            save(page, chosen.out / "prefect.png")
        browser.close()


if __name__ == "__main__":
    main()
