"""Draw docs/forms.png: the fields that nnpipe proposes for a form, and what it reads on a page.

python docs/draw_forms.py
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nnpipe.forms import making  # noqa: E402 - after the path
from nnpipe.forms.loading import load_form  # noqa: E402
from tests.sheets import form, toml, turned  # noqa: E402

NUMBERS = "038", "130", "150", "318"
SIZE = 720, 600
"""Pixels of each half: the upper part of a page."""


def main() -> None:
    """Draw both halves, and write them beside each other."""
    with tempfile.TemporaryDirectory() as folder:
        empty, described = Path(folder) / "form.png", Path(folder) / "form.toml"
        form().save(empty)
        described.write_text(toml("form.png"))
        page = turned(form(NUMBERS, seed=4), 1)
        halves = [
            making.propose(empty).drawing,
            making.try_form(page, form=load_form(described), weights=None).drawing,
        ]
    sheet = Image.new("RGB", (2 * SIZE[0] + 20, SIZE[1]), "white")
    for number, half in enumerate(halves):
        picture = Image.open(io.BytesIO(half))
        scaled = picture.resize((SIZE[0], round(picture.height * SIZE[0] / picture.width)))
        sheet.paste(scaled.crop((0, 0, *SIZE)), (number * (SIZE[0] + 20), 0))
    sheet.quantize(128, Image.Quantize.MAXCOVERAGE).save(
        Path(__file__).with_name("forms.png"), optimize=True
    )


if __name__ == "__main__":
    main()
