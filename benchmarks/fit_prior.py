"""Fit the coefficients of nnpipe/numbers/prior.json on composed numbers.

    python benchmarks/fit_prior.py [--weights FILE] [--data-dir data] [--numbers 2000]

It makes the right numbers as probable as possible: gradient descent on the mean of
−log P(number | picture) over numbers composed of training digits, where P is the share of the
weights of all paths that spell the number. PyTorch differentiates the forward algorithm. Numbers
that even then cannot be read (`HOPELESS`) are left out of a second fit, so that it serves those
that can be: least trimmed squares have the same idea (Rousseeuw 1984).

That makes the reader too sure. So all coefficients are then divided by the temperature (Guo et al.
2017, "On Calibration of Modern Neural Networks", section 4.2) at which numbers composed of
validation digits are right as frequently as the confidences say.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import option_parser
from torch import Tensor

from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits, composed, load
from nnpipe.evaluation.confidence import answer_reliability
from nnpipe.numbers import ways
from nnpipe.numbers.pieces import MOST, Lattice
from nnpipe.numbers.prior import PART, SHAPE, Prior, parts_features, weigh
from nnpipe.numbers.search import SIGNS, Found, Graph, search

STEPS, RATE, BATCH, WORST, HOPELESS = 60, 0.08, 250, 12.0, 6.0
TEMPERATURES = np.linspace(1, 1.6, 9).tolist()
START = Prior(
    network=1.0,
    doubt=1e-4,
    shape=np.array([1.5, -8, -10, -20, -1.5, 0, -25, -5, -7]),
    part=np.array([-2.0, 3, -2, 0, 2, 2, 0, -1]),
    torn=-1.5,
    ways={ways.PLAIN: 0, ways.RULES_KEPT: 0, ways.INVERTED: -3, ways.EVEN: 0},
    unknown=0.3,
)
NEVER = -1e4  # logarithm of the weight of what cannot be
WAYS, KEPT = tuple(START.ways), ways.RULES_KEPT


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


def in_batches(of: list[Sample]) -> list[list[Sample]]:
    """Put samples with lattices of a similar length together."""
    some = sorted((s for s in of if s.lattices), key=lambda s: max(x.parts for x in s.lattices))
    return [some[start : start + BATCH] for start in range(0, len(some), BATCH)]


def pack(some: list[Sample]) -> Batch:
    """Pack the lattices of samples."""
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
        parts_shapes=torch.tensor(np.concatenate([parts_features(x, p) for _, x, p in views])),
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
        self.doubt = parameter(np.log(prior.doubt))
        self.shape, self.part = parameter(prior.shape), parameter(prior.part)
        self.torn = parameter(prior.torn)
        self.ways = parameter([prior.ways[way] for way in WAYS])
        self.unknown = prior.unknown

    def forward(self, batch: Batch) -> Tensor:
        """Return −log P(number | picture) of each sample."""
        doubt = self.doubt.exp()
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

    def prior(self) -> Prior:
        """Return the coefficients as the reader takes them."""
        shape, part, odds = (x.detach().numpy().copy() for x in (self.shape, self.part, self.ways))
        return Prior(
            network=self.network.item(),
            doubt=self.doubt.exp().item(),
            shape=shape,
            part=part,
            torn=self.torn.item(),
            # Composed boxes lack sides more frequently than real ones do. So they make it too
            # likely that lines are strokes.
            ways=dict(zip(WAYS, (odds - odds[0]).tolist(), strict=True))
            | {KEPT: min(float(odds[WAYS.index(KEPT)] - odds[0]), 0.0)},
            unknown=self.unknown,
        )


def values(prior: Prior) -> dict[str, object]:
    """Return the coefficients as they stand in the file."""

    def short(names: Sequence[str], values: Iterable[float]) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}

    return {
        "network": round(prior.network, 4),
        "doubt": round(prior.doubt, 6),
        "shape": short(SHAPE, prior.shape),
        "part": short(PART, prior.part),
        "torn": round(prior.torn, 4),
        "ways": short(WAYS, prior.ways.values()),
        "unknown": prior.unknown,
    }


@torch.no_grad()
def readable(model: Coefficients, of: list[Sample]) -> list[Sample]:
    """Return the samples that are not hopeless."""
    kept = []
    for some in in_batches(of):
        losses = model(pack(some)).tolist()
        kept += [s for s, loss in zip(some, losses, strict=True) if loss < HOPELESS]
    return kept


def fit(model: Coefficients, to: list[Sample]) -> None:
    """Fit the coefficients with Adam, at a falling rate."""
    of = [pack(some) for some in in_batches(to)]
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


def calibration_error(some: list[Sample], prior: Prior) -> float:
    """Return the expected calibration error of the confidences, in [0, 1]."""
    found = []
    for sample in some:
        pairs = zip(sample.lattices, sample.probabilities, strict=True)
        weights = [weigh(x, p, prior=prior) for x, p in pairs]
        found.append(next(search(Graph.of(sample.lattices, weights)), Found("", 0.0)))
    confidence = np.array([number.share for number in found])
    right = np.array([n.label == s.label for n, s in zip(found, some, strict=True)])
    return answer_reliability(confidence, right).ece


def cooled(prior: Prior, temperature: float) -> Prior:
    """Divide all logarithms of weights by a temperature."""
    return prior._replace(
        network=prior.network / temperature,
        shape=prior.shape / temperature,
        part=prior.part / temperature,
        torn=prior.torn / temperature,
        ways={way: log / temperature for way, log in prior.ways.items()},
    )


def main() -> None:
    """Fit, write the file, and say how well held-out numbers are read."""
    parser = option_parser(__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--numbers", type=int, default=3000)
    given = parser.parse_args()
    classifier = Classifier.load(given.weights)
    data = load("mnist", given.data_dir)
    model = Coefficients(START)
    numbers = samples(data.training, classifier, count=given.numbers, seed=0)
    fit(model, numbers)
    fit(model, readable(model, numbers))
    held_out = samples(data.validation, classifier, count=1000, seed=1)
    errors = {t: calibration_error(held_out, cooled(model.prior(), t)) for t in TEMPERATURES}
    temperature = min(errors, key=errors.__getitem__)
    prior = cooled(model.prior(), temperature)
    file = Path(ways.__file__).with_name("prior.json")
    file.write_text(json.dumps(values(prior), indent=2, ensure_ascii=False) + "\n")
    others = samples(data.validation, classifier, count=1000, seed=2)
    error = calibration_error(others, prior)
    print(f"temperature {temperature:.2f}; calibration error on other numbers {error:.3f}")


if __name__ == "__main__":
    main()
