"""Fit the coefficients of nnpipe/numbers/cells.json on the fields of composed forms.

    python benchmarks/fit_cells.py [--weights FILE] [--data-dir data] [--pages 60]

It does what `fit_prior` does, for rows of boxes with one digit in each; see there, and `read_forms`
for the forms. Since the reader knows how many digits there are, the right number becomes as
probable as possible among those of its length; others count less, as in `search`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import fit_prior
import numpy as np
import read_forms
import torch
from fit_prior import NEVER, Batch, Coefficients, Sample, cooled, fit, readable, values
from measure import option_parser
from torch import Tensor

from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits, load
from nnpipe.forms.fields import cut_out
from nnpipe.forms.reading import SURE
from nnpipe.numbers.constraints import Wanted
from nnpipe.numbers.pieces import MOST
from nnpipe.numbers.prior import CELLS, PLACE, Prior, weigh
from nnpipe.numbers.search import SIGNS, Found, Graph, search
from nnpipe.numbers.ways import prepare

TEMPERATURE = 1.2
"""Of 1, 1.1, 1.2 and 1.3, that with the least calibration error, 0.009, on 1800 fields of the forms
of `read_forms` with validation digits, which alignment found."""


class InCells(Coefficients):
    """The coefficients of a row of boxes, to be fitted."""

    def forward(self, batch: Batch) -> Tensor:
        """Return −log P(number | picture, number of digits) of each sample."""
        pieces, passed = self._weights(batch)
        torn, rows, way = self.torn * batch.through, torch.arange(len(batch.ends)), batch.way
        wanted = self._wanted(batch, pieces.shape[1])
        every = pieces.logsumexp(3, keepdim=True)
        sums = [
            self._forward(pieces.gather(3, wanted), passed, torn=torn),
            self._forward(every.expand(-1, -1, -1, wanted.shape[3]), passed, torn=torn),
        ]
        ends = [one[rows, batch.ends, batch.lengths] for one in sums]
        ends.append(self._forward(every, passed, torn=torn, free=True)[rows, batch.ends, 0])
        right, fits, total = (self._pooled(one + self.ways[way], batch) for one in ends)
        others = total + torch.log1p(-torch.exp((fits - total).clamp(max=-1e-9)))
        return torch.logaddexp(fits, others - np.log(Wanted(2, 2).length_odds)) - right

    def _weights(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the weights of pieces and of parts that are passed over."""
        doubt, number = self.doubt.exp(), (len(batch.ends), int(batch.ends.max()))
        shares = (1 - doubt) * batch.probabilities + doubt / 10
        unlike = self.unknown * (1 - batch.probabilities.amax(1, keepdim=True)) + 1e-12
        logs = self.network * torch.cat([shares, unlike], 1).log()
        logs = logs + (batch.shapes @ self.shape)[:, None]
        pieces = torch.full((*number, MOST, len(SIGNS)), NEVER, dtype=torch.float64)
        passed = torch.full(number, NEVER, dtype=torch.float64)
        parts = batch.parts_shapes @ self.part
        return pieces.index_put(tuple(batch.piece), logs), passed.index_put(
            tuple(batch.part), parts
        )


def fields(data: Digits, *, pages: int, seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """Compose forms, fill them in, and cut their fields where they truly are."""
    rng = np.random.default_rng(seed)
    for number in range(pages):
        sheet = read_forms.compose(rng, read_forms.KINDS[number % 2])
        page, labels = read_forms.filled(sheet, data, rng)
        shown, matrix = read_forms.seen(page, rng, turned=False)
        for (left, top, width, height), label in zip(sheet.boxes, labels, strict=True):
            box = np.array([left, top, left + width, top + height])
            cut = cut_out(shown, box, matrix=matrix, reference=sheet.picture, cells=len(label))
            yield cut.pixels, label


def samples(digits: Digits, classifier: Classifier, *, pages: int, seed: int) -> list[Sample]:
    """Compose fields and read their pieces."""
    some = []
    for pixels, label in fields(digits, pages=pages, seed=seed):
        lattices = prepare(pixels, cells=len(label)).lattices
        some.append(Sample(label, lattices, [classifier.probabilities(x.pixels) for x in lattices]))
    return some


def judge(some: list[Sample], prior: Prior) -> tuple[float, float]:
    """Return the share of the fields that are surer than `SURE`, and the share wrong among them."""
    sure, wrong = 0, 0
    for one in some:
        pairs = zip(one.lattices, one.probabilities, strict=True)
        graph = Graph.of(one.lattices, [weigh(x, p, prior=prior) for x, p in pairs])
        length = len(one.label)
        best = next(search(graph, Wanted(length, length)), Found("", 0.0))
        sure += best.share >= SURE
        wrong += best.share >= SURE and best.label != one.label
    return sure / len(some), wrong / max(sure, 1)


def main() -> None:
    """Fit, write the file, and say how well fields with validation digits are read."""
    parser = option_parser(__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--pages", type=int, default=60)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    classifier, data = Classifier.load(given.weights), load("mnist", given.data_dir)
    start = fit_prior.START
    model = InCells(start._replace(shape=np.append(start.shape, [-4, -3])))
    numbers = samples(data.training, classifier, pages=given.pages, seed=0)
    fit(model, numbers)
    fit(model, readable(model, numbers))
    held_out = samples(data.validation, classifier, pages=given.pages, seed=1)
    prior = cooled(model.prior(), TEMPERATURE)
    sure, wrong = judge(held_out, prior)
    print(f"{sure:.1%} of fields surer than {SURE:.0%}, {wrong:.2%} of these wrong")
    place = [round(x, 4) for x in prior.shape[-len(PLACE) :].tolist()]
    named = values(prior._replace(shape=prior.shape[: -len(PLACE)]))
    named["shape"] |= dict(zip(PLACE, place, strict=True))
    CELLS.write_text(json.dumps(named, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
