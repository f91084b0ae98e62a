"""Fit the coefficients of nnpipe/numbers/prior.json on composed numbers.

    python benchmarks/fit_prior.py [--weights FILE] [--data-dir data] [--numbers 2000]

It makes the right numbers as probable as possible: gradient descent on the mean of
−log P(number | picture) over numbers composed of training digits, where P is the share of the
weights of all paths that spell the number. PyTorch differentiates the forward algorithm. Then it
says how numbers composed of validation digits are read. A picture that cannot be read at all counts
no more than `WORST`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import option_parser
from torch import Tensor

from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits, composed, load
from nnpipe.numbers import ways
from nnpipe.numbers.pieces import MOST, Lattice
from nnpipe.numbers.prior import PART, SHAPE, Prior
from nnpipe.numbers.search import SIGNS

STEPS, RATE, BATCH, WORST = 120, 0.08, 250, 12.0
NEVER = -1e4  # logarithm of the weight of what cannot be
WAYS = (ways.PLAIN, ways.RULES_KEPT, ways.INVERTED, ways.EVEN)


class Sample(NamedTuple):
    """A composed number as the reader sees it."""

    label: str
    lattices: Sequence[Lattice]
    probabilities: Sequence[np.ndarray]


class Batch(NamedTuple):
    """Lattices of some samples; E pieces and P parts of all of them together."""

    piece: Tensor  # (3, E) int64: its lattice, its first cut, its parts − 1
    shapes: Tensor  # (E, S)
    probabilities: Tensor  # (E, 10)
    part: Tensor  # (2, P): its lattice, its number
    parts_shapes: Tensor  # (P, …)
    through: Tensor  # (V, cuts + 1): which cuts cross ink
    ends: Tensor  # (V,): parts of each lattice
    way: Tensor  # (V,): index in `WAYS`
    sample: Tensor  # (V,)
    labels: Tensor  # (V, L) int64, padded with 0
    lengths: Tensor  # (V,)


def samples(digits: Digits, classifier: Classifier, *, count: int, seed: int) -> list[Sample]:
    """Compose numbers and read their pieces."""
    rng = np.random.default_rng(seed)
    numbers = composed.compose(digits, rng, count=count)
    found = []
    for number in numbers:
        lattices, _ = ways.understand(number.picture.astype(np.float32))
        shares = [classifier.probabilities(lattice.pixels) for lattice in lattices]
        found.append(Sample(number.label, lattices, shares))
    return found


def batches(of: list[Sample]) -> list[Batch]:
    """Pack samples with lattices of a similar length together."""
    some = sorted((s for s in of if s.lattices), key=lambda s: max(x.parts for x in s.lattices))
    return [_pack(some[start : start + BATCH]) for start in range(0, len(some), BATCH)]


def _pack(some: list[Sample]) -> Batch:
    views = [
        (n, *v) for n, s in enumerate(some) for v in zip(s.lattices, s.probabilities, strict=True)
    ]
    lattices = [lattice for _, lattice, _ in views]
    which = np.repeat(np.arange(len(views)), [len(x.first) for x in lattices])
    first = np.concatenate([x.first for x in lattices])
    last = np.concatenate([x.last for x in lattices])
    parts = [x.parts for x in lattices]
    longest = max(len(s.label) for s in some)
    labels = [[int(d) for d in some[n].label.ljust(longest, "0")] for n, _, _ in views]
    return Batch(
        piece=torch.tensor(np.stack([which, first, last - first - 1])),
        shapes=torch.tensor(np.concatenate([x.shapes for x in lattices])),
        probabilities=torch.tensor(np.concatenate([p for _, _, p in views])),
        part=torch.tensor(
            np.stack(
                [np.repeat(np.arange(len(views)), parts), np.concatenate([*map(np.arange, parts)])]
            )
        ),
        parts_shapes=torch.tensor(np.concatenate([x.parts_shapes for x in lattices])),
        through=torch.tensor(
            np.stack([np.pad(x.through, (0, max(parts) - x.parts)) for x in lattices])
        ),
        ends=torch.tensor(parts),
        way=torch.tensor([WAYS.index(x.way) for x in lattices]),
        sample=torch.tensor([n for n, _, _ in views]),
        labels=torch.tensor(labels),
        lengths=torch.tensor([len(some[n].label) for n, _, _ in views]),
    )


class Coefficients(torch.nn.Module):
    """The coefficients of `Prior`, to be fitted."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()

        def parameter(values: object) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))

        self.network = parameter(prior.network)
        self.doubt = parameter(np.log(prior.doubt / (1 - prior.doubt)))
        self.shape, self.part = parameter(prior.shape), parameter(prior.part)
        self.torn = parameter(prior.torn)
        self.ways = parameter([prior.ways[way] for way in WAYS])
        self.unknown = prior.unknown

    def forward(self, batch: Batch) -> Tensor:
        """Return −log P(number | picture) of each sample."""
        doubt = torch.sigmoid(self.doubt)
        shares = (1 - doubt) * batch.probabilities + doubt / 10
        unlike = self.unknown * (1 - batch.probabilities.amax(1, keepdim=True)) + 1e-12
        logs = self.network * torch.cat([shares, unlike], 1).log()
        logs = logs + (batch.shapes @ self.shape)[:, None]
        number, cuts = len(batch.ends), int(batch.ends.max())
        pieces = torch.full((number, cuts, MOST, len(SIGNS)), NEVER, dtype=torch.float64)
        pieces = pieces.index_put(tuple(batch.piece), logs)
        passed = torch.full((number, cuts), NEVER, dtype=torch.float64)
        passed = passed.index_put(tuple(batch.part), batch.parts_shapes @ self.part)
        torn = self.torn * batch.through
        spelled = self._forward(pieces.gather(3, self._wanted(batch, cuts)), passed, torn=torn)
        every = self._forward(pieces.logsumexp(3, keepdim=True), passed, torn=torn, free=True)
        rows = torch.arange(number)
        way = self.ways[batch.way]
        right = spelled[rows, batch.ends, batch.lengths] + way
        return self._pooled(every[rows, batch.ends, 0] + way, batch) - self._pooled(right, batch)

    @staticmethod
    def _wanted(batch: Batch, cuts: int) -> Tensor:
        number, length = batch.labels.shape
        return batch.labels[:, None, None, :].expand(number, cuts, MOST, length)

    @staticmethod
    def _forward(pieces: Tensor, passed: Tensor, *, torn: Tensor, free: bool = False) -> Tensor:
        """Sum over all paths to each cut: (V, cuts + 1, digits so far + 1); in logarithms.

        Without ``free``, digit k + 1 of a path has the weights ``pieces[..., k]``; with it, all
        digits have the same.
        """
        number, cuts, _, length = pieces.shape
        never = torch.full((number, 1), NEVER, dtype=torch.float64)
        none = never if free else never.expand(-1, length + 1)
        start = torch.cat([torch.zeros_like(never), none[:, 1:]], 1)
        read, over = [start], [none]  # after a piece, and after a part that was passed over
        for cut in range(1, cuts + 1):
            further = torch.logaddexp(read[cut - 1] + torn[:, cut - 1, None], over[cut - 1])
            over.append(further + passed[:, cut - 1, None])
            steps = []
            for parts in range(min(MOST, cut)):
                at = cut - parts - 1
                before = torch.logaddexp(read[at], over[at] + torn[:, at, None])
                piece = pieces[:, at, parts]
                step = before + piece if free else torch.cat([never, before[:, :-1] + piece], 1)
                steps.append(step)
            read.append(torch.stack(steps).logsumexp(0))
        return torch.logaddexp(torch.stack(read, 1), torch.stack(over, 1))

    @staticmethod
    def _pooled(logs: Tensor, batch: Batch) -> Tensor:
        """Sum over the lattices of each sample."""
        count = int(batch.sample.max()) + 1
        most = torch.full((count,), -torch.inf, dtype=torch.float64)
        most = most.scatter_reduce(0, batch.sample, logs.detach(), "amax")
        sums = torch.zeros(count, dtype=torch.float64)
        sums = sums.index_add(0, batch.sample, (logs - most[batch.sample]).exp())
        return most + sums.log()

    def values(self) -> dict[str, object]:
        """Return the coefficients as they stand in the file."""

        def short(values: Tensor) -> list[float]:
            return [round(value, 4) for value in values.tolist()]

        return {
            "network": round(self.network.item(), 4),
            "doubt": round(torch.sigmoid(self.doubt).item(), 4),
            "shape": dict(zip(SHAPE, short(self.shape), strict=True)),
            "part": dict(zip(PART, short(self.part), strict=True)),
            "torn": round(self.torn.item(), 4),
            "ways": dict(zip(WAYS, short(self.ways - self.ways[0]), strict=True)),
            "unknown": self.unknown,
        }


def fit(model: Coefficients, of: list[Batch]) -> None:
    """Fit the coefficients with Adam, at a falling rate."""
    count = sum(int(batch.sample.max()) + 1 for batch in of)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    for step in range(STEPS):
        adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS) + RATE / 30
        adam.zero_grad()
        total = 0.0
        for batch in of:
            loss = model(batch).clamp(max=WORST).sum() / count
            loss.backward()
            total += float(loss.detach())
        adam.step()
        if step % 20 == 0 or step == STEPS - 1:
            print(f"step {step}: {total:.4f}", flush=True)


def main() -> None:
    """Fit, write the file, and say how well held-out numbers are read."""
    parser = option_parser(__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--numbers", type=int, default=2000)
    given = parser.parse_args()
    classifier = Classifier.load(given.weights)
    data = load("mnist", given.data_dir)
    model = Coefficients(Prior.load())
    fit(model, batches(samples(data.training, classifier, count=given.numbers, seed=0)))
    file = Path(ways.__file__).with_name("prior.json")
    file.write_text(json.dumps(model.values(), indent=2, ensure_ascii=False) + "\n")
    with torch.no_grad():
        held_out = batches(samples(data.validation, classifier, count=500, seed=1))
        losses = torch.cat([model(batch).clamp(max=WORST) for batch in held_out])
    print(f"{file}: written; on numbers of validation digits {losses.mean():.4f}")


if __name__ == "__main__":
    main()
