"""Labelled pictures of one's own: what is found, what is held out, and what learning brings."""

import gzip
import os
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from nnpipe import Classifier, adaptation, datasets, labelled, records, train, weights
from nnpipe.adaptation import Replay, Settings, adapt, between, distort
from nnpipe.champions import Store
from nnpipe.champions.rules import compare_on_both, own_pictures, rival, same_data
from nnpipe.classifier import champion as shipped
from nnpipe.classifier import file_of
from nnpipe.datasets import Digits, drawn
from nnpipe.errors import DatasetError, LabelError, SettingError, TrainingError
from nnpipe.evaluation.statistics import wilson
from nnpipe.files import sha256
from nnpipe.ground_truth.sources import list_table
from nnpipe.network import Network
from nnpipe.own.collecting import collect, digest
from nnpipe.own.measuring import OwnReport, Point, forecast
from nnpipe.own.pictures import OwnPictures, together
from nnpipe.own.splitting import group, hold_out
from nnpipe.preprocess import as_inputs
from nnpipe.report.metrics import reproduce
from nnpipe.settings import WeightsRequest
from nnpipe.style import USUAL, Style
from nnpipe.training import loss_and_accuracy

LABELS = np.arange(40) % 10


@pytest.fixture(scope="module")
def images():
    return drawn.draw(LABELS, np.random.default_rng(7))


@pytest.fixture
def hand(tmp_path, images):
    """A folder with four pictures of each digit."""
    folder = tmp_path / "hand"
    for number, (label, image) in enumerate(zip(LABELS, images, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - image).resize((84, 84)).save(folder / f"{label}/{number}.png")
    return folder


# --- what is found --------------------------------------------------------------------------------


def test_a_fifth_of_the_pictures_is_held_out_whatever_the_order_of_the_files(hand):
    found = labelled(hand).pictures
    assert (len(found), found.held_out.sum()) == (40, 8)
    for number, path in enumerate(sorted(hand.rglob("*.png"))):
        path.rename(path.with_name(f"{99 - number}.png"))
    again = labelled(hand).pictures
    assert found.checksum == again.checksum
    assert set(found.keys[found.held_out]) == set(again.keys[again.held_out])


def test_a_picture_stays_on_its_side_when_others_come(hand):
    before = labelled(hand).pictures
    for path in sorted(hand.rglob("*.png"))[::3]:
        Image.open(path).rotate(9, fillcolor=255).save(path.with_name(f"new-{path.name}"))
    after = collect([hand], Classifier.load(), before=before).pictures
    sides = dict(zip(after.keys, after.held_out, strict=True))
    assert len(after) == 54
    assert all(sides[k] == h for k, h in zip(before.keys, before.held_out, strict=True))


def test_what_is_odd_is_said_and_left_out(hand):
    (hand / "3/note.png").write_text("no picture")
    (hand / "loose.png").write_bytes((hand / "3/3.png").read_bytes())
    (hand / "3/copy.png").write_bytes((hand / "3/3.png").read_bytes())
    (hand / "5/same.png").write_bytes((hand / "3/13.png").read_bytes())
    Image.new("L", (60, 60), 255).save(hand / "4/blank.png")
    Image.open(hand / "8/8.png").transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(hand / "2/8.png")
    found = labelled(hand)
    assert found.unlabelled == ("loose.png",)
    assert [file.name for file in found.unreadable] == ["3/note.png"]
    assert [file.name for file in found.refused] == ["4/blank.png"]
    assert found.copies in (("3/copy.png",), ("3/3.png",))
    assert {text.partition(" ")[0] for text in found.contradictions} == {"5/same.png", "3/13.png"}
    assert [one.name for one in found.suspects] == ["2/8.png"]
    assert len(found.pictures) == 40
    assert len(labelled(hand, drop_suspects=True).pictures) == 39
    text = "\n".join(found.lines())
    assert "maybe labelled wrongly, and kept" in text
    assert "2/8.png (labelled 2, read as 8)" in text


def test_files_that_cannot_be_opened_are_named(hand, tmp_path):
    """The kind: whatever stands in a folder or a table instead of a picture."""
    (hand / "3/gone.png").symlink_to("nowhere")
    (hand / "3/loop.png").symlink_to("loop.png")
    (hand / "3/zero.png").symlink_to("/dev/zero")
    os.mkfifo(hand / "3/pipe.png")
    found = labelled(hand)
    assert len(found.unreadable) == 4
    assert len(found.pictures) == 40
    names = ["hand/3/3.png", "missing.png", "hand", "", "a\0b.png", "x" * 5000]
    for label in ("3", "37"):
        rows = [f"{name},{label if 'hand/' not in name else 3}" for name in names]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
        found = labelled(tmp_path / "labels.csv")
        assert len(found.unreadable) == 5
        assert "missing.png (there is no such file)" in "\n".join(found.lines())
        assert digest([tmp_path / "labels.csv"])


def test_a_number_is_not_cut_into_what_it_does_not_show(tmp_path, images):
    """Any label could be found by cutting a picture into as many pieces."""
    sheet = np.full((60, 168), 255, np.uint8)
    for place, one in enumerate((1, 2, 3, 4)):
        sheet[16:44, 12 + 38 * place : 40 + 38 * place] = 255 - images[one]
    Image.fromarray(sheet).resize((504, 180)).save(tmp_path / "n.png")
    for label, digits in (("1234", 4), ("1243", 0), ("12345", 0), ("1734", 0), ("123", 0)):
        (tmp_path / "labels.csv").write_text(f"file,label\nn.png,{label}")
        if digits:
            assert len(labelled(tmp_path / "labels.csv").pictures) == digits
        else:
            with pytest.raises(LabelError, match="it shows 1234 rather than"):
                labelled(tmp_path / "labels.csv")


def test_labels_that_are_mostly_wrong_teach_nothing(hand):
    names = sorted(path.name for path in hand.iterdir())
    for name in names:
        (hand / name).rename(hand / f"was-{name}")
    for name in names:
        (hand / f"was-{name}").rename(hand / str((int(name) + 1) % 10))
    with pytest.raises(LabelError, match="37 of 40 labels seem to be wrong, such as"):
        labelled(hand)


def test_a_corrected_label_takes_the_place_of_the_old_one(hand):
    (hand / "3/3.png").rename(hand / "9/3.png")
    before = labelled(hand).pictures
    (hand / "9/3.png").rename(hand / "3/3.png")
    after = collect([hand], Classifier.load(), before=before)
    key = sha256((hand / "3/3.png").read_bytes())
    assert before.labels[before.keys == key] == [9]
    assert after.pictures.labels[after.pictures.keys == key] == [3]
    assert after.earlier == 0
    (hand / "3/3.png").rename(hand / "9/3.png")
    without = collect([hand], Classifier.load(), before=before, drop_suspects=True)
    assert key not in without.pictures.keys
    assert len(after.pictures) == 40


def test_the_order_of_sources_does_not_matter(hand, tmp_path):
    (tmp_path / "other/7").mkdir(parents=True)
    (hand / "7/7.png").rename(tmp_path / "other/7/x.png")
    one, other = (
        labelled(*sources).pictures
        for sources in ((hand, tmp_path / "other"), (tmp_path / "other", hand))
    )
    np.testing.assert_array_equal(one.training.images, other.training.images)
    assert one.checksum == other.checksum


def test_missing_and_unbalanced_digits_are_said(hand):
    for path in (hand / "0").iterdir():
        path.unlink()
    assert "there is no picture of 0" in "\n".join(labelled(hand).lines())


def test_the_digits_of_numbers_are_learned_from(tmp_path, images):
    rows = ["file;label;writer"]
    for number in range(6):
        some = [4 * number, 4 * number + 1, 4 * number + 2]
        sheet = np.full((60, 130), 255, np.uint8)
        for place, one in enumerate(some):
            sheet[16:44, 12 + 38 * place : 40 + 38 * place] = 255 - images[one]
        Image.fromarray(sheet).resize((390, 180)).save(tmp_path / f"n{number}.png")
        rows.append(f"n{number}.png;{''.join(str(LABELS[n]) for n in some)};w{number % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-16")
    found = labelled(tmp_path / "labels.csv").pictures
    assert len(found) >= 15
    files = np.array([key.split()[0] for key in found.keys])
    for file in np.unique(files):  # the digits of a number are on one side
        assert len(set(found.held_out[files == file])) == 1
    right, _ = found.judged(Classifier.load())
    assert right.mean() > 0.8  # wrongly cut digits would be read by chance


def test_pictures_stay_on_their_side_whatever_comes(images):
    """Writers become known, and pictures come a few at a time."""
    keys = np.array([f"{n:064x}" for n in range(40)])
    writers = np.array([f"w{n % 4}" for n in range(40)])
    held = hold_out(group(images, writers=writers, keys=keys), keys, before={})
    before = dict(zip(keys.tolist(), held.tolist(), strict=True))
    more = np.concatenate([images, images[:20, ::-1]])
    writers = np.append(writers, ["w4"] * 20)
    keys = np.append(keys, [f"{n:064x}" for n in range(40, 60)])
    again = hold_out(group(more, writers=writers, keys=keys), keys, before=before)
    np.testing.assert_array_equal(again[:40], held)
    numbers = np.arange(160)
    known = before
    for week in range(60):
        some = np.array([f"{n:064x}" for n in range(40 + 2 * (week + 1))])
        held = hold_out(numbers[: len(some)], some, before=known)
        known = dict(zip(some.tolist(), held.tolist(), strict=True))
    assert 0.18 < held.mean() < 0.22


def test_pictures_that_are_alike_are_counted(hand, tmp_path):
    Image.open(hand / "7/7.png").save(hand / "7/again.bmp")
    assert labelled(hand).alike == 2
    rows = [
        f"hand/{p.relative_to(hand)},{p.parent.name},w{n % 6}"
        for n, p in enumerate(sorted(hand.rglob("*.png")))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,writer", *rows]))
    found = labelled(tmp_path / "labels.csv")
    assert found.alike == 0  # those of a writer belong together, and are not meant
    assert next(found.lines()).startswith("40 digits by 6 writers: 3")


def test_one_picture_of_a_few_is_held_out(images):
    for n in range(1, 6):
        keys = np.array([f"{k:064x}" for k in range(n)])
        held = hold_out(np.arange(n), keys, before={})
        assert held.sum() == (n > 1)


def test_all_pictures_of_a_writer_are_on_one_side(images):
    writers = np.array([f"w{n % 7}" for n in range(len(images))])
    keys = np.array([f"{n:064x}" for n in range(len(images))])
    groups = group(images, writers=writers, keys=keys)
    held = hold_out(groups, keys, before={})
    assert 0 < held.sum() < len(held) / 2
    for writer in set(writers):
        assert len(set(held[writers == writer])) == 1


def test_the_same_picture_seen_twice_is_on_one_side(images):
    twice = np.concatenate([images, np.minimum(images, 250)])
    keys = np.array([f"{n:064x}" for n in range(len(twice))])
    groups = group(twice, writers=np.full(len(twice), ""), keys=keys)
    assert (groups[: len(images)] == groups[len(images) :]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,x", "line 2: the label 'x' is not a number"),
        ("a.png,3\n", "lacks a column"),
        ("file,label\n", "lists no picture"),
        ("file,label\na.png,3\na.png,3", "line 3 has the picture of line 2 again"),
        ("file,label\na.png", "line 2 has 1 cells, and the first line 2"),
        ("\xff\xfe\x00", "is no CSV file in UTF-8"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LabelError, match=message):
        list_table(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_come_from_a_spreadsheet(tmp_path, encoding, delimiter):
    path = tmp_path / "labels.csv"
    path.write_text(f"Label{delimiter}File\r\n7{delimiter}ü.png\r\n", encoding=encoding)
    (one,) = list_table(path)
    assert (one.path, one.label, one.writer) == (tmp_path / "ü.png", "7", "")


def test_a_folder_that_is_no_digit_is_one_sentence(hand):
    (hand / "ten").mkdir()
    with pytest.raises(LabelError, match="its sub-folder 'ten' is no digit"):
        labelled(hand)
    with pytest.raises(LabelError, match="there is no such folder or file"):
        labelled(hand / "none")


# --- the file -------------------------------------------------------------------------------------


def test_pictures_are_kept_as_they_are(hand, tmp_path):
    found = labelled(hand).pictures
    found.save(tmp_path / "own.npz")
    again = OwnPictures.load(tmp_path / "own.npz")
    assert again.checksum == found.checksum
    np.testing.assert_array_equal(again.training.images, found.training.images)
    reader = Classifier.load()
    np.testing.assert_array_equal(again.judged(reader)[1], found.judged(reader)[1])


def test_pictures_are_read_as_any_others(hand):
    """Also those with several ways to understand them."""
    found = labelled(hand).pictures
    reader = Classifier.load()
    readings = reader.read_many([hand / name for name in found.names])
    right = [reading.label == label for reading, label in zip(readings, found.labels, strict=True)]
    assert found.judged(reader)[0].tolist() == right


def test_some_and_together_keep_pictures_and_their_ways(hand):
    found = labelled(hand).pictures
    odd = np.arange(len(found)) % 2 == 1
    both = together([found.some(odd), found.some(~odd), found])
    assert len(both) == len(found)
    order = np.argsort(found.keys)
    np.testing.assert_array_equal(both.labels, found.labels[order])
    np.testing.assert_array_equal(both.pixels[both.learned], found.pixels[found.learned][order])
    np.testing.assert_array_equal(both.names, found.take(order).names)
    assert both.checksum == found.checksum


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_damaged_file_is_one_sentence(hand, tmp_path, damage):
    path = tmp_path / "own.npz"
    labelled(hand).pictures.save(path)
    content = path.read_bytes()
    if damage == "other":
        np.savez(path, labels=np.zeros(3))
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"x")
    with pytest.raises(TrainingError, match=r"own\.npz: is damaged"):
        OwnPictures.load(path)


# --- learning -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A little trained network, and digits to replay and to measure on."""
    rng = np.random.default_rng(0)
    labels = np.arange(1500) % 10
    digits = Digits(drawn.draw(labels, rng), labels.astype(np.uint8))
    from nnpipe.epochs import Sgd
    from nnpipe.training import train as fit

    examples = as_inputs(digits.images), digits.labels
    network, _ = fit(
        Network.initialise(rng), examples, validation=examples, settings=Sgd(epochs=6, lr=0.05)
    )
    return network, digits


def test_a_network_learns_new_pictures_and_does_not_forget(small):
    """Digits upside down, which it cannot read before."""
    network, digits = small
    own = Digits(digits.images[:40, ::-1, ::-1].copy(), digits.labels[:40])
    examples = as_inputs(digits.images), digits.labels
    replay = Replay.of(network, digits, seed=0)
    new, history = adapt(
        network, own, replay=replay, validation=examples, settings=Settings(epochs=3, steps=50)
    )
    assert len(history) == 3
    shown = as_inputs(own.images), own.labels
    before, after = (loss_and_accuracy(one, shown)[0] for one in (network, new))
    kept = [loss_and_accuracy(one, examples)[0] for one in (network, new)]
    assert kept[1] <= 1.05 * kept[0]
    assert after < 0.8 * before


def test_the_same_seed_gives_the_same_network(small):
    network, digits = small
    examples = as_inputs(digits.images[:300]), digits.labels[:300]
    replay = Replay.of(network, digits, seed=0)
    own = Digits(digits.images[:20], digits.labels[:20])
    one, other = (
        adapt(network, own, replay=replay, validation=examples, settings=Settings(1, 5), seed=4)[0]
        for _ in range(2)
    )
    assert weights.digest_of(one) == weights.digest_of(other)


def test_replayed_labels_follow_the_networks_probabilities(small):
    network, digits = small
    replay = Replay.of(network, digits, seed=0)
    X, labels = replay.draw(20_000, np.random.default_rng(1))
    shares = np.bincount(labels, minlength=10) / len(labels)
    expected = np.diff(replay.cumulated, axis=1, prepend=0).mean(axis=0)
    assert X.shape == (20_000, 784)
    np.testing.assert_allclose(shares, expected, atol=0.015)  # five standard errors


def test_a_network_that_forgets_is_taken_back(small):
    network, digits = small
    examples = as_inputs(digits.images), digits.labels
    worse = Network.initialise(np.random.default_rng(5))
    assert between(network, worse, validation=examples) is network
    assert weights.digest_of(between(network, network, validation=examples)) == weights.digest_of(
        network
    )


def test_distorted_pictures_stay_where_they_are(images):
    shown = distort(images, np.random.default_rng(0))
    assert shown.shape == images.shape
    rows = np.arange(28)[:, None]
    for before, after in zip(images.astype(float), shown.astype(float), strict=True):
        assert abs((before * rows).sum() / before.sum() - (after * rows).sum() / after.sum()) < 3


def turned(images, degrees):
    """Pictures turned by Pillow."""
    return np.array(
        [Image.fromarray(one).rotate(degrees, Image.Resampling.BILINEAR) for one in images]
    )


@pytest.mark.parametrize("degrees", [-25, 25])
def test_the_style_of_turned_digits_is_their_angle(small, degrees):
    network, digits = small
    some = Digits(turned(digits.images[:60], degrees), digits.labels[:60])
    style = Style.of(some, network=network)
    others = style.write(digits.images[500:900], np.random.default_rng(0))
    # A network that reads upright digits alone reads them as badly as those that Pillow turned.
    by_pillow = turned(digits.images[500:900], degrees)
    right, wanted = (
        (network.logits(as_inputs(one)).argmax(axis=1) == digits.labels[500:900]).mean()
        for one in (others, by_pillow)
    )
    assert np.sign(style.values[0]) == np.sign(degrees)
    assert abs(right - wanted) < 0.15
    assert right < 0.9


def test_digits_that_are_read_well_have_hardly_a_style(small):
    network, digits = small
    style = Style.of(Digits(digits.images[:50], digits.labels[:50]), network=network)
    assert (np.abs(style.values) < USUAL).all()


def test_one_picture_hardly_tells_a_style(small):
    network, digits = small
    one = Digits(digits.images[:1], digits.labels[:1])
    wrong = Digits(digits.images[:1], (digits.labels[:1] + 1) % 10)
    for some in (one, wrong):
        assert (np.abs(Style.of(some, network=network).values) < 4 * USUAL).all()


def curve(*right):
    """A learning curve: pictures of 100 that are read right after 0, 20, 40 … were learned from."""
    return [Point(20 * n, 100, wilson(count, 100)) for n, count in enumerate(right)]


def test_a_forecast_never_promises_less_than_now():
    more = forecast(curve(90, 92, 94))
    assert 0.94 < more.value < 1
    assert more.low < more.value < more.high
    assert forecast(curve(90, 94, 92)).value >= 0.92
    assert forecast(curve(90, 92)) is None


def test_a_steep_curve_is_not_believed():
    """Errors fall with the square root of the number of pictures at most."""
    more = forecast(curve(50, 60, 99))
    assert 1 - more.value >= 0.01 * (1 + 50 / 40) ** -0.5 - 1e-9


@pytest.mark.parametrize("right", [(95, 95, 95), (100, 100, 100), (96, 93, 95)])
def test_a_curve_that_does_not_rise_promises_nothing(right):
    points = curve(*right)
    assert forecast(points).value == pytest.approx(points[-1].accuracy.value)
    assert "hardly anything" in OwnReport(None, [], points, forecast(points), []).outlook


# --- promotion ------------------------------------------------------------------------------------


def reader(network, **about):
    """A classifier with a network."""
    metadata = weights.Metadata(
        layer_sizes=network.sizes,
        preprocessing_version=3,
        dataset="drawn",
        dataset_checksum="0",
        recipe="sgd",
        seed=0,
        engine="numpy",
        created="2026-01-01T00:00:00+00:00",
        **about,
    )
    return Classifier(weights.Weights(network, metadata))


def collection(digits, held_out):
    """Own pictures with one way each."""
    n = len(digits.labels)
    return OwnPictures(
        names=np.array([str(i) for i in range(n)]),
        writers=np.full(n, ""),
        keys=np.array([f"{i:064x}" for i in range(n)]),
        labels=digits.labels,
        held_out=held_out,
        learned=np.arange(n),
        pixels=digits.images,
        owners=np.arange(n),
        refused=np.zeros(n, bool),
        odds=np.ones(n),
    )


@pytest.fixture(scope="module")
def hands(small):
    """A network, the same adapted to a hand that writes upside down, and pictures of that hand."""
    network, digits = small
    turned = Digits(digits.images[:200, ::-1, ::-1].copy(), digits.labels[:200])
    own = collection(turned, np.arange(200) % 7 == 0)
    examples = as_inputs(digits.images), digits.labels
    replay = Replay.of(network, digits, seed=0)
    with mock.patch.object(adaptation, "MAY_RISE", 1.5):  # it is a very small network
        new, _ = adapt(network, own.training, replay=replay, validation=examples)
    return network, new, own


def verdicts(rules):
    return {rule.name: rule.passed for rule in rules}


def test_a_network_that_reads_own_pictures_better_is_promoted(hands, small):
    old, new, own = hands
    accuracy = loss_and_accuracy(old, (as_inputs(small[1].images), small[1].labels))[1]
    champion = reader(old, validation_accuracy=accuracy - 0.05)
    rules = compare_on_both(reader(new), champion, own=own, validation=small[1])
    passed = verdicts(rules)
    assert [passed[name] for name in ("not worse", "own", "better")] == [True] * 3
    assert "of 29 own pictures that were held out" in rules[1].reason


def test_a_network_that_reads_own_pictures_worse_is_refused(hands, small):
    old, new, own = hands
    champion = reader(new, validation_accuracy=0.5)
    rules = compare_on_both(reader(old), champion, own=own, validation=small[1])
    assert not verdicts(rules)["own"]


def test_without_pictures_that_were_held_out_nothing_is_promoted(hands, small):
    old, new, own = hands
    learned = own.holding_out(np.zeros(len(own), bool))
    rules = compare_on_both(reader(new), reader(old), own=learned, validation=small[1])
    assert not verdicts(rules)["own"]


def test_many_small_losses_do_not_add_up(hands, small):
    """What may be lost counts from the last champion without own pictures."""
    old, new, own = hands
    about = weights.OwnData("0", 200, 40, floor=0.999)
    champion = reader(old, own=about, validation_accuracy=0.9)
    rules = compare_on_both(reader(new), champion, own=own, validation=small[1])
    assert not verdicts(rules)["not worse"]
    assert "it must not fall below 99.80%" in rules[0].reason


def test_a_champion_that_does_not_say_how_well_it_reads_is_measured(hands, small):
    old, new, own = hands
    accuracy = loss_and_accuracy(old, (as_inputs(small[1].images), small[1].labels))[1]
    rules = compare_on_both(reader(new), reader(old), own=own, validation=small[1])
    assert f"it must not fall below {accuracy - 0.001:.2%}" in rules[0].reason


def test_a_candidate_that_was_trained_beside_a_worse_network_is_refused(hands):
    """Its floor would let those that follow it fall as far."""
    old, new, own = hands
    champion = reader(old, validation_accuracy=0.993)
    for floor, passed in ((0.98, False), (0.993, True)):
        candidate = reader(new, own=weights.OwnData(own.checksum, len(own), 29, floor))
        assert same_data(candidate, champion, own=(own, None)).passed is passed


def test_a_candidate_has_learned_from_all_of_the_champions_own_pictures(hands):
    old, new, own = hands
    about = weights.OwnData(own.checksum, len(own), 29, 0.9)
    champion, candidate = reader(old, own=about), reader(new, own=about)
    fewer = own.some(np.arange(len(own)) > 2)
    assert same_data(candidate, champion, own=(own, fewer)).passed
    rule = same_data(candidate, champion, own=(fewer, own))
    assert not rule.passed
    assert "3 of the champion's own pictures" in rule.reason


def test_a_new_folder_reads_and_judges_with_the_network_that_comes_with_nnpipe(hands, tmp_path):
    own = hands[2]
    packaged = Classifier.load().weights.metadata
    theirs = tmp_path / "office"
    with pytest.raises(SettingError, match="there is no such folder of weights"):
        file_of(WeightsRequest(weights_dir=theirs))
    theirs.mkdir()
    assert file_of(WeightsRequest(weights_dir=theirs)) == shipped()
    about = weights.OwnData(own.checksum, len(own), 29, 0.99)
    candidate = replace(packaged, own=about)
    assert rival(candidate, theirs / "model_weights.npz") == shipped()
    for other in (packaged, replace(candidate, dataset_checksum="0")):
        assert rival(other, theirs / "model_weights.npz") == theirs / "model_weights.npz"
    (theirs / "former").mkdir()
    assert file_of(WeightsRequest(weights_dir=theirs)) == shipped()
    # There was a champion, so its loss must not go unnoticed.
    (theirs / "former/0001-a").mkdir()
    (theirs / "former/0001-a/model_weights.npz").touch()
    assert file_of(WeightsRequest(weights_dir=theirs)) == theirs / "model_weights.npz"


def test_pictures_beside_weights_must_be_those_it_learned_from(hands, tmp_path):
    own = hands[2]
    about = replace(
        Classifier.load().weights.metadata, own=weights.OwnData(own.checksum, len(own), 29, 0.99)
    )
    file = tmp_path / "model_weights.npz"
    with pytest.raises(TrainingError, match=r"own\.npz: there is no such file"):
        own_pictures(file, about)
    own.save(tmp_path / "own.npz")
    assert len(own_pictures(file, about)) == len(own)
    changed = own.pixels.copy()
    changed[0, 14, 14] ^= 255
    replace(own, pixels=changed).save(tmp_path / "own.npz")
    with pytest.raises(TrainingError, match="has other pictures"):
        own_pictures(file, about)


def test_the_commands_of_a_report_name_own_pictures_and_the_origin(tmp_path):
    about = replace(
        Classifier.load().weights.metadata,
        engine="numpy",
        own=weights.OwnData("0", 60, 12, 0.99),
        origin=weights.Origin("ab" * 32, "torch", "augmented"),
    )
    *_, comment, command = reproduce("x", about, path=tmp_path / "model_weights.npz")
    assert "SHA-256 abababababab" in comment
    assert f"--data mnist --data {tmp_path}/own.npz --engine numpy" in command
    assert "--from FILE" in command


@pytest.mark.slow
def test_an_adapted_network_is_trained_judged_and_promoted(hand, tmp_path, monkeypatch):
    """With the command's own stages, on drawn digits."""
    monkeypatch.setattr(datasets, "DRAWN_TRAINING", 3000)
    monkeypatch.setattr(datasets, "DRAWN_TEST", 500)
    monkeypatch.setattr(datasets, "VALIDATION", 500)
    where = {"data_dir": tmp_path / "data", "weights_dir": tmp_path / "weights"}
    datasets.prepare("drawn", tmp_path / "data")
    first = train("drawn", engine="numpy", epochs=2, **where)
    store = Store(tmp_path / "weights")
    assert store.promote(first.run, where["data_dir"]).promoted
    adapted = train("drawn", hand, start="champion", engine="numpy", epochs=2, **where)
    about = weights.load(adapted.weights).metadata
    assert (about.recipe, about.origin.recipe, about.own.pictures) == ("adapted", "sgd", 40)
    assert about.origin.network == weights.digest_of(weights.load(first.weights).network)
    assert about.own.floor == pytest.approx(
        weights.load(first.weights).metadata.validation_accuracy
    )
    report = records.load(OwnReport, adapted.run / "own.json")
    assert (report.shared.pictures, report.held_out[0].pictures) == (250, 8)
    assert report.curve[0].pictures == 0
    done = store.promote(adapted.run, where["data_dir"])
    assert [rule.name for rule in done.decision.rules] == [
        "dataset", "whole", "not worse", "own", "better", "recall",
    ]  # fmt: skip
    if done.promoted:
        assert (store.root / "own.npz").exists()
    # The pictures may go: the next candidate learns from what the champion kept.
    again = train("drawn", start=adapted.weights, engine="numpy", epochs=1, **where)
    assert weights.load(again.weights).metadata.own.checksum == about.own.checksum


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (("drawn",), {"start": "champion"}, "there is nothing to adapt to"),
        (("drawn",), {"drop_suspects": True}, "drop_suspects is set without pictures"),
        (("drawn", "mnist"), {}, "data names 'drawn' and 'mnist'"),
        (("drawn", "hand"), {"start": "champion", "recipe": "classic"}, "recipe is set with from"),
    ],
)
def test_settings_that_contradict_are_one_sentence(
    hand, tmp_path, monkeypatch, data, options, message
):
    monkeypatch.chdir(hand.parent)
    where = {"data_dir": tmp_path / "data", "weights_dir": tmp_path / "weights"}
    with pytest.raises(SettingError, match=message):
        train(*data, engine="numpy", **options, **where)


# --- other sets in MNIST's format -----------------------------------------------------------------


@pytest.fixture
def idx(tmp_path):
    """A function that writes a set of four files."""

    def write(*, n=240, labels=None, side=28, names=("train", "t10k")):
        folder = tmp_path / "set"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for part in names:
            own = np.arange(n, dtype=np.uint8) % 10 if labels is None else labels
            pixels = rng.integers(0, 255, (n, side, side), np.uint8)
            for kind, array in (("images-idx3", pixels), ("labels-idx1", own)):
                head = bytes([0, 0, 8, array.ndim]) + b"".join(s.to_bytes(4) for s in array.shape)
                (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
        return folder

    return write


def test_a_set_of_four_files_is_a_data_set(idx, tmp_path):
    data = datasets.load(f"idx:{idx()}", tmp_path)
    assert [len(part.labels) for part in (data.training, data.validation, data.test)] == [
        220,
        20,
        240,
    ]


def test_labels_may_be_rows_of_integers_as_qmnist_has_them(idx, tmp_path):
    folder = idx()
    before = datasets.load(f"idx:{folder}", tmp_path)
    for part, new in (("train", "train"), ("t10k", "test")):
        labels = folder / f"{part}-labels-idx1-ubyte"
        digits = np.frombuffer(labels.read_bytes()[8:], np.uint8)
        rows = np.column_stack([digits, *[np.full(len(digits), 4)] * 7]).astype(">i4")
        head = bytes([0, 0, 12, 2]) + len(digits).to_bytes(4) + (8).to_bytes(4)
        (folder / f"qmnist-{new}-labels-idx2-int.gz").write_bytes(
            gzip.compress(head + rows.tobytes())
        )
        labels.unlink()
        pictures = folder / f"{part}-images-idx3-ubyte"
        pictures.rename(folder / f"qmnist-{new}-images-idx3-ubyte")
    again = datasets.load(f"idx:{folder}", tmp_path)
    np.testing.assert_array_equal(again.training.labels, before.training.labels)
    np.testing.assert_array_equal(again.test.images, before.test.images)


def test_pictures_that_lie_on_their_side_are_put_upright(idx, tmp_path):
    """EMNIST's files swap rows and columns."""
    folder = idx(n=600)
    labels = (np.arange(600) % 10).astype(np.uint8)
    upright = drawn.draw(labels, np.random.default_rng(3))
    head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4) for size in upright.shape)
    for pixels in (upright, np.ascontiguousarray(upright.swapaxes(1, 2))):
        (folder / "train-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        data = datasets.load(f"idx:{folder}", tmp_path)
        both = np.concatenate([data.training.images, data.validation.images])
        assert sorted(map(bytes, both)) == sorted(map(bytes, upright))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 20}, "its pictures have 20×20 pixels, expected 28×28"),
        ({"labels": np.full(240, 12, np.uint8)}, "has the label 12; expected digits"),
        ({"labels": np.zeros(240, np.uint8)}, "no picture has the label 1"),
        ({"labels": np.zeros(7, np.uint8)}, "has 7 labels, and train-images-idx3-ubyte has 240"),
        ({"n": 50}, "has 50 pictures, expected 100 to"),
        ({"names": ("train",)}, "has no file such as t10k-images-idx3-ubyte.gz"),
    ],
)
def test_a_wrong_set_is_one_sentence(idx, tmp_path, options, message):
    folder = idx(**options)
    with pytest.raises(DatasetError, match=message):
        datasets.load(f"idx:{folder}", tmp_path)
