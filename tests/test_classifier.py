import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nnpipe import weights
from nnpipe.classifier import Classifier, champion
from nnpipe.datasets import drawn
from nnpipe.errors import NnpipeError, WeightsError
from nnpipe.network import Network
from nnpipe.preprocess import as_inputs

from .make_samples import SAMPLES, encoded, make, picture


@pytest.fixture
def classifier(weights_file):
    return Classifier.load(weights_file)


def test_paths_bytes_files_images_and_arrays_are_read_alike(classifier, tmp_path):
    content = encoded(picture(3), "PNG")
    path = tmp_path / "3.png"
    path.write_bytes(content)
    image = picture(3)
    with path.open("rb") as file, zipfile.ZipFile(tmp_path / "3.zip", "w") as archive:
        archive.writestr("3.png", content)
        with archive.open("3.png") as member:
            files = [path, str(path), file, member, io.BytesIO(content)]
            decoded = [image, np.asarray(image)]
            first, *others = classifier.read_many([content, bytearray(content), *files, *decoded])
    assert first.status == "ok"
    assert sum(first.probabilities) == pytest.approx(1, abs=1e-5)
    assert first.confidence == max(first.probabilities) == first.probabilities[first.label]
    for other in others:
        assert other == first
        assert (other.pixels == first.pixels).all()


@pytest.mark.parametrize("thing", [None, 7, 2.5, {}, [[0, 255]], {"a.png"}, object(), np.uint8(3)])
def test_what_is_no_picture_is_a_type_error(classifier, thing):
    expected = f"the type {type(thing).__name__} is no picture; expected a path, bytes, an open"
    with pytest.raises(TypeError, match=expected):
        classifier.read(thing)
    with pytest.raises(TypeError, match=expected):
        classifier.read_many([picture(3), thing])


def test_a_file_that_is_open_for_text_is_a_type_error(classifier, tmp_path):
    (tmp_path / "3.png").write_bytes(encoded(picture(3), "PNG"))
    with (
        open(tmp_path / "3.png", encoding="latin-1") as file,
        tempfile.NamedTemporaryFile("w+") as temporary,
    ):
        for text in (file, temporary, io.StringIO("3")):
            with pytest.raises(TypeError, match="is open for text; open it with the mode 'rb'"):
                classifier.read(text)


def test_pictures_that_cannot_be_read_are_readings_with_a_reason(classifier, tmp_path):
    closed = io.BytesIO(b"")
    closed.close()
    things = ["none.png", tmp_path, b"", bytearray(7), io.BytesIO(b"text"), closed, np.zeros(3)]
    for reading in classifier.read_many(things):
        assert reading.status == "error"
        assert reading.reason


def test_many_pictures_may_come_from_a_generator_but_not_as_one_path(classifier):
    assert [r.status for r in classifier.read_many(picture(n) for n in (1, 2))] == ["ok", "ok"]
    assert classifier.read_many([]) == []
    with pytest.raises(TypeError, match="expected several pictures, not one path"):
        classifier.read_many("3.png")


def test_readings_can_be_compared_hashed_copied_and_printed(classifier):
    three, again, two, bad = classifier.read_many([picture(3), picture(3), picture(2), b"none"])
    assert three == again != two
    assert {three, again, two, bad} == {three, two, bad}
    assert deepcopy([three, bad]) == [three, bad]  # which goes the way of pickle
    assert repr(bad) == (
        "Reading(status='error', label=None, confidence=None, "
        f"reason={bad.reason!r}, width=None, height=None)"
    )
    assert re.fullmatch(
        r"Reading\(status='ok', label=\d, confidence=[\d.]+, reason='', width=\d+, height=\d+\)",
        repr(three),
    )


def test_classifiers_can_be_compared_hashed_copied_and_printed(classifier, weights_file):
    assert classifier == classifier != Classifier.load(weights_file)
    assert classifier in {classifier}
    assert deepcopy(classifier).read(picture(3)) == classifier.read(picture(3))
    expected = "Classifier(weights=<784-128-64-10, sgd on drawn, seed 0>, threshold=0.0)"
    assert repr(classifier) == expected


def test_the_content_of_a_weights_file_is_loaded_like_the_file(doubting):
    of_file, of_content = Classifier.load(doubting), Classifier.load(doubting.read_bytes())
    assert of_content.threshold == of_file.threshold == 0.6
    assert of_content.read(picture(3)) == of_file.read(picture(3))
    assert Classifier.load(bytearray(doubting.read_bytes())).threshold == 0.6


@pytest.mark.parametrize("source", [b"", bytearray(), "", "none.npz"])
def test_what_is_named_is_never_the_champion_instead(source):
    with pytest.raises(WeightsError, match=r"^(the weights|\.|none\.npz): "):
        Classifier.load(source)


def test_one_and_many_are_the_same_to_the_last_bit(classifier):
    pictures = list(drawn.draw(np.arange(300) % 10, np.random.default_rng(0)))
    together = [reading.probabilities for reading in classifier.read_many(pictures)]
    assert [classifier.read(picture).probabilities for picture in pictures] == together


PROBABILITIES = """
import sys
import numpy as np
from nnpipe.classifier import Classifier
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, 28, 28)
sys.stdout.buffer.write(Classifier.load().probabilities(pixels).round(6).tobytes())
"""


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_processors_and_threads_give_the_same_digits(processor, threads):
    """What BLAS adds in which order depends on both."""
    pixels = drawn.draw(np.arange(300) % 10, np.random.default_rng(0))
    done = subprocess.run(
        [sys.executable, "-c", PROBABILITIES],
        env=os.environ | {"OPENBLAS_CORETYPE": processor, "OPENBLAS_NUM_THREADS": threads},
        input=pixels.tobytes(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == Classifier.load().probabilities(pixels).round(6).tobytes()


def test_probabilities_are_the_networks(classifier):
    pixels = drawn.draw(np.arange(700) % 10, np.random.default_rng(0))
    network, temperature = classifier.weights.network, classifier.weights.metadata.temperature
    expected = network.probabilities(as_inputs(pixels), temperature)
    np.testing.assert_allclose(classifier.probabilities(pixels), expected, rtol=1e-4, atol=1e-6)


def test_an_unreadable_picture_does_not_move_the_others(classifier):
    good = [classifier.read(picture(label)) for label in (1, 2)]
    first, bad, blank, second = classifier.read_many(
        [picture(1), b"no picture", Image.new("L", (50, 50)), picture(2)]
    )
    assert (first.probabilities, second.probabilities) == tuple(r.probabilities for r in good)
    assert (bad.status, bad.label, bad.probabilities, bad.pixels) == ("error", None, None, None)
    assert (blank.status, blank.label) == ("rejected", None)
    assert len(blank.probabilities) == 10


def test_threads_share_one_classifier(classifier):
    pictures = list(drawn.draw(np.arange(200) % 10, np.random.default_rng(0)))
    expected = [reading.probabilities for reading in classifier.read_many(pictures)]
    with ThreadPoolExecutor(8) as pool:
        probabilities = list(pool.map(lambda p: classifier.read(p).probabilities, pictures * 5))
    assert probabilities == expected * 5


def test_weights_for_another_preprocessing_are_refused(tmp_path, network, metadata, golden):
    path = tmp_path / "old.npz"
    weights.save(path, network, metadata=replace(metadata, preprocessing_version=99), golden=golden)
    with pytest.raises(WeightsError, match="made for preprocessing version 99") as caught:
        Classifier.load(path)
    assert caught.value.advice == "export"


def test_weights_for_something_else_than_digits_are_refused(tmp_path, metadata):
    path = tmp_path / "other.npz"
    network = Network.initialise(np.random.default_rng(0), (6, 5, 3))
    weights.save(path, network, metadata=metadata, golden=np.zeros((1, 6), np.uint8))
    with pytest.raises(WeightsError, match="expected 784 inputs and 10 outputs"):
        Classifier.load(path)


def test_the_temperature_of_the_file_is_applied(tmp_path, network, metadata, golden):
    path = tmp_path / "warm.npz"
    weights.save(path, network, metadata=replace(metadata, temperature=4.0), golden=golden)
    warm, plain = Classifier.load(path).read(picture(3)), Classifier(weights.load(path)).weights
    expected = plain.network.probabilities(as_inputs(warm.pixels[None]), 4.0)[0]
    np.testing.assert_allclose(warm.probabilities, expected, rtol=1e-4)


THRESHOLDS = {"0.0": 0.0, "0.01": 0.6, "0.1": 1.0}


@pytest.fixture
def doubting(tmp_path, network, metadata, golden):
    """A weights file whose network is sure of nothing, and which says what to refuse."""
    path = tmp_path / "doubting.npz"
    about = replace(
        metadata, temperature=50.0, rejection_threshold=0.6, rejection_thresholds=THRESHOLDS
    )
    weights.save(path, network, metadata=about, golden=golden)
    return path


def test_what_is_read_with_too_little_confidence_is_rejected_with_its_best_guess(doubting):
    reading = Classifier.load(doubting).read(picture(3))
    assert (reading.status, reading.label) == ("rejected", None)
    assert reading.reason == "unlike any digit: the confidence is below 60%"
    assert reading.confidence == max(reading.probabilities) < 0.6
    assert reading.pixels.any()


def test_the_reject_rate_chooses_the_threshold(doubting):
    assert Classifier.load(doubting).threshold == 0.6
    assert Classifier.load(doubting, 0).read(picture(3)).status == "ok"
    assert Classifier.load(doubting, 0.055).threshold == pytest.approx(0.8)


@pytest.mark.parametrize("rate", [-0.1, 0.11, float("nan")])
def test_a_reject_rate_out_of_range_is_refused(doubting, rate):
    with pytest.raises(NnpipeError, match=r"reject_rate is .*, expected at (least 0|most 0\.1)"):
        Classifier.load(doubting, rate)


def test_a_file_without_thresholds_rejects_nothing_for_its_confidence(weights_file):
    assert Classifier.load(weights_file).threshold == 0
    with pytest.raises(WeightsError, match=r"holds no rejection thresholds$") as caught:
        Classifier.load(weights_file, 0.01)
    assert caught.value.advice == "export"


def test_the_first_frame_is_read_and_the_reason_says_so(classifier):
    frames = [picture(label).convert("P") for label in (2, 7)]
    reading = classifier.read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (reading.status, reading.reason) == ("ok", "the first of 2 frames was read")


def test_the_champion_reads_the_samples():
    """A sample's name says which digit it shows, or that it shows none or is broken."""
    classifier = Classifier.load()
    for path in sorted(SAMPLES.iterdir()):
        reading = classifier.read(path)
        expected = {"no": "rejected", "broken": "error"}.get(path.name.split("-")[0], "ok")
        assert reading.status == expected, (path.name, reading.reason)
        if expected == "ok":
            assert reading.label == int(path.name[0]), path.name


def test_the_samples_are_what_the_script_draws():
    """The same names; drawn anew, each PNG holds the same picture up to a few grey levels."""
    files = make()
    assert sorted(files) == sorted(path.name for path in SAMPLES.iterdir())
    for name in (name for name in files if name.endswith("-on-light.png")):
        with Image.open(SAMPLES / name) as kept:
            again = np.asarray(Classifier.load().read(files[name]).pixels, float)
            shown = np.asarray(Classifier.load().read(kept).pixels, float)
        assert np.abs(again - shown).mean() < 2


def test_the_champion_is_measured_and_trained_on_mnist():
    metadata = weights.load(champion()).metadata
    assert metadata.dataset == "mnist"
    assert metadata.test_accuracy >= 0.985
