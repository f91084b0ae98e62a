"""docs/how-it-learns.md shows the very lines of the code, and prints what it says it prints."""

import re
import subprocess
import sys
from itertools import pairwise
from textwrap import dedent

import pytest

from .conftest import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "how-it-learns.md").read_text()

# Prose, and the block of code after it, in turns.
PROSE, _, CODE = (re.split(r"(?ms)^```(\w*)\n(.*?)^```\n", TEXT)[i::3] for i in range(3))
LINK = r"\[[^]]*?lines? (\d+)(?: to (\d+))?\]\(([\w/.]+)#L(\d+)(?:-L(\d+))?\)"
# Each block whose last paragraph before links to lines, and those links.
EXCERPTS = [
    (code, links)
    for prose, code in zip(PROSE, CODE, strict=False)
    if (links := re.findall(LINK, prose.rstrip().rpartition("\n\n")[2]))
]
EXAMPLES = [(code, output) for code, output in pairwise(CODE) if code.startswith("import ")]
NUMBER = r"[+-]?\d+\.\d*"


def lines(path, first, last):
    """Lines of a file, counted from 1, without the indentation that all of them have."""
    chosen = (DOCS / path).read_text().splitlines()[int(first) - 1 : int(last or first)]
    return dedent("\n".join(chosen))


@pytest.mark.parametrize(("code", "links"), EXCERPTS, ids=[code[:20] for code, _ in EXCERPTS])
def test_an_excerpt_is_what_its_links_lead_to(code, links):
    assert "\n".join(lines(*link[2:]) for link in links) == code.rstrip("\n")


def test_links_lead_to_the_lines_that_they_name():
    links = re.findall(LINK, TEXT)
    assert len(links) == TEXT.count("#L")
    for first, last, *place in links:
        assert [first, last] == place[1:]
    without_excerpt = [link for link in links if not any(link in found for _, found in EXCERPTS)]
    assert [lines(*link[2:])[:5] for link in without_excerpt] == ["W = W"]  # folds a deviation


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_what_can_be_run_prints_what_is_shown(code, output):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    printed, shown = (re.sub(r" +", " ", re.sub(NUMBER, "N", t)) for t in (done.stdout, output))
    assert printed == shown
    found, expected = ([float(n) for n in re.findall(NUMBER, t)] for t in (done.stdout, output))
    # What is measured by differences has fewer digits than what is computed.
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_the_pictures_can_be_made_anew(mnist_data, tmp_path):
    command = ["docs/make_pictures.py", "--data-dir", mnist_data, "--out", tmp_path]
    subprocess.run([sys.executable, *command], cwd=ROOT, timeout=300, check=True)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT))
