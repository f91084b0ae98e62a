"""What a workbook shows beside answers that a person should check: small pictures as text."""

import base64
import io
from collections.abc import Iterator, Sequence

from PIL import Image

from nnpipe.preprocess import Picture, Pixels, attempt
from nnpipe.preprocess.pictures import grey, open_picture
from nnpipe.scoring.entries import Entry, Reader
from nnpipe.scoring.paging import page_of
from nnpipe.scoring.rows import AnyRow

SIZE = 400, 80
"""Most pixels of a crop: width and height."""


def added(
    rows: Sequence[AnyRow], crops: Sequence[Pixels], *, entry: Entry, reader: Reader
) -> Iterator[AnyRow]:
    """Add to each row of a page that is doubtful or rejected what there is to see.

    Args:
        rows: one, or one for each field.
        crops: uint8 (h, w) of each field; or none, if the whole page is to be shown.
        entry: the page.
        reader: of its file, which is read again if there are no crops.
    """
    for number, row in enumerate(rows):
        if row.status not in ("doubtful", "rejected"):
            yield row
        elif crops:
            yield row._replace(crop=_encoded(Image.fromarray(crops[number])))
        elif row.field:  # a page that does not look like the form
            yield row
        else:
            (content,) = reader.read([entry])
            image = attempt(_small, page_of(entry, content))
            yield row._replace(crop=_encoded(image) if isinstance(image, Image.Image) else None)


def _small(picture: Picture) -> Image.Image:
    return Image.fromarray(grey(open_picture(picture).image).astype("uint8"))


def _encoded(image: Image.Image) -> str:
    """Return an image as the base64 of a PNG."""
    stream = io.BytesIO()
    image.thumbnail(SIZE)
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
