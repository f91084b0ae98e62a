import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import chi2, entropy, norm

from nnpipe import drift, runs, stages, weights
from nnpipe.classifier import Classifier, champion, feature_values
from nnpipe.datasets import drawn
from nnpipe.epochs import Epoch
from nnpipe.errors import WeightsError

from .test_weights import spoil_metadata

EVEN = [500] * 10


@pytest.fixture(scope="module")
def reference():
    """The champion's."""
    return weights.load(champion()).metadata.reference


def shares(counts):
    smoothed = np.asarray(counts) + 0.5
    return smoothed / smoothed.sum()


def values(rng, reference, *, n):
    """Values of n pictures that are like the reference."""
    result = {}
    for name, distribution in reference.items():
        bins = rng.choice(len(distribution.counts), n, p=shares(distribution.counts))
        result[name] = np.array([distribution.edges[0] - 1, *distribution.edges])[bins]
    return result


# --- the index and its limit ----------------------------------------------------------------------


def test_the_index_by_hand():
    """Two bins of (2, 2) before are shares of a half each. Of (4, 0) with half a picture added to
    each bin, shares are 0.9 and 0.1: (0.9 - 0.5) ln 1.8 + (0.1 - 0.5) ln 0.2 = 0.8789."""
    assert drift.psi([2, 2], [4, 0]) == pytest.approx(0.4 * math.log(9), abs=1e-12)
    assert drift.psi([2, 2], [4, 0]) == pytest.approx(0.8789, abs=1e-4)


def test_the_index_is_both_relative_entropies_added():
    """As SciPy has them; with so many pictures, smoothing does not show."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, q = rng.integers(10**7, 10**8, size=(2, 10))
        assert drift.psi(p, q) == pytest.approx(entropy(p, q) + entropy(q, p), rel=1e-4)


def test_the_index_of_no_change_is_zero_and_every_change_is_above_it():
    assert drift.psi(EVEN, EVEN) == pytest.approx(0, abs=1e-12)
    assert drift.psi(EVEN, [0] * 10) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(100):
        assert drift.psi(rng.integers(0, 9, 10), rng.integers(0, 9, 10)) >= 0


def test_empty_bins_make_it_large_and_not_infinite():
    one = drift.psi(EVEN, [1000, *[0] * 9])
    assert 1 < one < drift.psi(EVEN, [100_000, *[0] * 9]) < 100
    assert 1 < drift.psi([5000, *[0] * 9], [100] * 10) < 100
    assert math.isfinite(drift.psi([0, 1], [10**9, 0]))


@pytest.mark.parametrize("n", [1, 5, 20, 50, 200])
def test_that_nothing_is_rejected_is_no_drift_where_hardly_anything_was(n):
    assert drift.psi([4995, 5], [n, 0]) < 0.01


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 7, 9, 20, 99])
def test_the_quantile_is_scipys(freedom):
    assert norm.ppf(0.999) == pytest.approx(drift.Z)
    exact = chi2.ppf(0.999, freedom)
    assert exact <= drift.chi_square_quantile(freedom) < exact * (1.035 if freedom == 1 else 1.025)


def test_few_pictures_have_a_wide_limit_and_many_a_practical_one():
    limits = [drift.limit(5000, n, bins=10) for n in (0, 1, 20, 200, 300, 10**6)]
    assert limits[0] == math.inf
    assert limits[2:4] == pytest.approx(
        [chi2.ppf(0.999, 9) * (1 / n + 1 / 5000) for n in (20, 200)], rel=0.01
    )
    assert limits[4:] == [drift.LEAST] * 2
    assert sorted(limits, reverse=True) == limits
    assert drift.limit(5000, 7, bins=1) == drift.LEAST  # one bin alone cannot differ


# --- false alarms, and real changes ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 20, 50, 200, 5000])
def test_samples_of_the_reference_itself_rarely_exceed_the_limit(reference, n):
    """As the limit says: in one of a thousand for each feature, so in one of 250 for all four."""
    rng = np.random.default_rng(n)
    alarms = 0
    for _ in range(2000):
        # The reference is a sample, too.
        drawn_anew = {
            name: replace(
                distribution, counts=rng.multinomial(5000, shares(distribution.counts)).tolist()
            )
            for name, distribution in reference.items()
        }
        counts = {
            name: rng.multinomial(n, shares(distribution.counts)).tolist()
            for name, distribution in reference.items()
        }
        alarms += drift.compare(drawn_anew, counts).past
    # Beyond this many a rate of 0.4 % goes in one of 10,000 trials.
    assert alarms <= 20


@pytest.mark.parametrize("n", [200, 5000])
def test_a_real_change_is_found_in_the_feature_that_has_changed(reference, n):
    rng = np.random.default_rng(n)
    same = values(rng, reference, n=n)
    assert not drift.compare(reference, drift.count(same, reference)).past
    some = rng.random(n) < 0.4
    for name, value in (("labels", 7), ("confidences", 0.6), ("rejections", 1), ("ink", 0.02)):
        changed = same | {name: np.where(some, value, same[name])}
        result = drift.compare(reference, drift.count(changed, reference))
        assert result.past
        assert [feature.name for feature in result.features if feature.past] == [name]
        assert f"unlike the validation digits in {name} (PSI " in str(result)


def test_one_picture_is_never_drift_and_none_is_nothing(reference):
    for label in range(10):
        odd = {"labels": label, "confidences": 0.1, "rejections": 1, "ink": 0.9}
        counts = drift.count({name: np.array([v]) for name, v in odd.items()}, reference)
        result = drift.compare(reference, counts)
        assert not result.past
        assert {feature.n for feature in result.features} == {1}
    assert drift.compare(reference, {name: [0] * len(c) for name, c in counts.items()}) is None
    assert drift.compare(reference, {}) is None


def test_a_million_pictures_are_compared_at_once(reference):
    rng = np.random.default_rng(0)
    result = drift.compare(reference, drift.count(values(rng, reference, n=10**6), reference))
    assert not result.past
    assert {(feature.n, feature.limit) for feature in result.features} == {(10**6, drift.LEAST)}
    assert str(result) == "none to be seen"


def test_counts_of_parts_are_those_of_the_whole(reference):
    rng = np.random.default_rng(0)
    whole = values(rng, reference, n=1000)
    parts = [{name: v[part::3] for name, v in whole.items()} for part in range(3)]
    counts = [drift.count(part, reference) for part in parts]
    for name, expected in drift.count(whole, reference).items():
        assert np.sum([part[name] for part in counts], axis=0).tolist() == expected
        edges = [-math.inf, *reference[name].edges, math.inf]
        # NumPy's own histogram counts what is on its last edge, too; none is at infinity.
        assert np.histogram(whole[name], edges)[0].tolist() == expected


def test_the_result_is_ready_for_json(reference):
    counts = drift.count(values(np.random.default_rng(0), reference, n=100), reference)
    result = asdict(drift.compare(reference, counts))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


# --- the reference in the weights file ------------------------------------------------------------


def test_confidences_that_are_mostly_one_make_fewer_bins():
    many = {
        "labels": np.arange(1000) % 10,
        "confidences": np.where(np.arange(1000) < 400, np.arange(1000) / 1000, 1.0),
        "rejections": np.zeros(1000, int),
        "ink": np.linspace(0, 1, 1000),
    }
    result = drift.describe(many)
    assert result["confidences"].counts == [100, 100, 100, 100, 600]
    assert result["confidences"].edges[-1] == 1
    assert result["ink"].counts == [100] * 10
    assert result["labels"].counts == [100] * 10
    assert result["rejections"].counts == [1000, 0]
    assert drift.count(many, result) == {
        name: distribution.counts for name, distribution in result.items()
    }


def test_digits_that_are_all_alike_can_be_described():
    alike = {name: np.ones(5) for name in drift.FEATURES}
    result = drift.describe(alike)
    assert result["ink"].counts == [0, 5]
    assert not drift.compare(result, drift.count(alike, result)).past


def test_weights_carry_what_their_validation_digits_are_like(tmp_path, small_dataset, network):
    record = runs.Record(
        engine="numpy",
        recipe="sgd",
        seed=0,
        parameters={},
        dataset="drawn",
        dataset_checksum="0" * 64,
        created=runs.now(),
        git_commit=None,
        seconds=1.0,
        history=[Epoch(1, 1, 2.3, 2.3, 0.1, 1.0)],
    )
    stages.write_weights(
        tmp_path, network, record=record, data=small_dataset, out=tmp_path / "w.npz"
    )
    classifier = Classifier.load(tmp_path / "w.npz")
    result = classifier.weights.metadata.reference
    assert {sum(distribution.counts) for distribution in result.values()} == {500}
    # The same digits, read as pictures are, are the reference itself.
    readings = classifier.read_many(list(small_dataset.validation.images))
    counts = drift.count(feature_values(readings), result)
    assert counts == {name: distribution.counts for name, distribution in result.items()}
    rejected = sum(reading.status == "rejected" for reading in readings)
    assert result["rejections"].counts == [500 - rejected, rejected]


def test_the_champion_carries_five_thousand(reference):
    assert {sum(distribution.counts) for distribution in reference.values()} == {5000}
    assert reference["rejections"].counts == [4995, 5]


def test_what_is_measured_is_of_every_picture_that_was_read():
    pictures = [*drawn.draw(np.arange(10), np.random.default_rng(0)), np.zeros((28, 28), np.uint8)]
    readings = Classifier.load().read_many([*pictures, b"no picture"])
    result = feature_values(readings)
    assert {name: len(v) for name, v in result.items()} == dict.fromkeys(drift.FEATURES, 11)
    assert result["rejections"].tolist() == [r.status == "rejected" for r in readings[:11]]
    for reading, label, confidence, ink in zip(
        readings[:11], result["labels"], result["confidences"], result["ink"], strict=True
    ):
        assert reading.label in (label, None)
        assert confidence == reading.confidence
        assert ink == pytest.approx(reading.pixels.mean() / 255)
    assert {len(v) for v in feature_values([]).values()} == {0}


def test_older_weights_have_no_reference(weights_file):
    assert weights.load(weights_file).metadata.reference is None


def test_a_reference_is_saved_and_loaded(tmp_path, network, metadata, golden, reference):
    path = tmp_path / "w.npz"
    about = replace(metadata, reference=reference)
    weights.save(path, network, metadata=about, golden=golden)
    assert weights.load(path).metadata == about


GOOD = {
    "labels": {"edges": list(range(1, 10)), "counts": EVEN},
    "confidences": {"edges": [0.9], "counts": [1, 2]},
    "rejections": {"edges": [1], "counts": [9, 0]},
    "ink": {"edges": [0.1, 0.2], "counts": [1, 2, 3]},
}


@pytest.mark.parametrize(
    "ink",
    [
        {"edges": [0.1], "counts": [1]},
        {"edges": [0.1], "counts": [0, 0]},
        {"edges": [0.1], "counts": [1, -1]},
        {"edges": [0.1], "counts": [1, 2.5]},
        {"edges": [0.1], "counts": [1, "2"]},
        {"edges": [0.1], "counts": [1, 10**400]},
        {"edges": [0.2, 0.1], "counts": [1, 2, 3]},
        {"edges": [0.1, 0.1], "counts": [1, 2, 3]},
        {"edges": [math.nan], "counts": [1, 2]},
        {"edges": ["low"], "counts": [1, 2]},
        {"edges": 0.1, "counts": [1, 2]},
        {"edges": [0.1], "counts": [1, 2], "kind": "odd"},
        {"counts": [1]},
        [1, 2],
        None,
    ],
)
def test_a_reference_of_another_form_is_an_error_that_says_so(weights_file, ink):
    spoil_metadata(weights_file, reference=GOOD)
    assert asdict(weights.load(weights_file).metadata)["reference"] == GOOD
    spoil_metadata(weights_file, reference=GOOD | {"ink": ink})
    with pytest.raises(WeightsError, match="metadata cannot be understood"):
        weights.load(weights_file)


@pytest.mark.parametrize("reference", [[], {}, "odd", 7, {"ink": GOOD["ink"]}, GOOD | {"hue": {}}])
def test_a_reference_of_other_features_is_an_error_too(weights_file, reference):
    spoil_metadata(weights_file, reference=reference)
    with pytest.raises(WeightsError, match="metadata cannot be understood"):
        weights.load(weights_file)
