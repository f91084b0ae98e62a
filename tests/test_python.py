"""docs/python.md prints what it says it prints, block after block."""

import os
import re
import subprocess
import sys

import pytest

from .conftest import ROOT

TEXT = (ROOT / "docs" / "python.md").read_text()
SECTIONS = [section for section in TEXT.split("\n## ") if "```python" in section]
EXAMPLE = r"(?ms)^```python\n(.*?)^```\n\n^```\n(.*?)^```\n"
ROUGH = "Train and measure"  # where accuracies depend on the processor


def run(folder, code):
    """Run code in a folder with the samples and the champion, and return what it prints."""
    for name in ("samples", "weights"):
        (folder / name).mkdir()
        for path in (ROOT / name).iterdir():
            if path.is_file():
                (folder / name / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def examples(*sections):
    """The code of sections, and what it prints."""
    blocks = [block for section in sections for block in re.findall(EXAMPLE, section)]
    return tuple("".join(texts) for texts in zip(*blocks, strict=True))


def test_every_block_of_code_is_followed_by_what_it_prints():
    assert len(re.findall(EXAMPLE, TEXT)) == TEXT.count("```python") > 10


def test_the_blocks_print_what_is_shown(tmp_path):
    code, shown = examples(*(s for s in SECTIONS if not s.startswith(ROUGH)))
    assert run(tmp_path, code) == shown


@pytest.mark.slow
def test_training_prints_about_what_is_shown(tmp_path):
    code, shown = examples(*(s for s in SECTIONS if s.startswith(ROUGH)))
    printed = run(tmp_path, f"from pathlib import Path\n{code}")
    number = r"\d+(?=%)"
    assert re.sub(number, "N", printed) == re.sub(number, "N", shown)
    found, expected = (list(map(int, re.findall(number, text))) for text in (printed, shown))
    assert found == pytest.approx(expected, abs=2)
