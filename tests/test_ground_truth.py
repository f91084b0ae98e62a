import os

import pytest
from PIL import Image

from nnpipe import ground_truth
from nnpipe.datasets.mnist import DISPUTED
from nnpipe.errors import EvaluationError

from .make_samples import SAMPLES, encoded
from .seen import champion, prepare
from .test_scoring_faults import SABOTAGE, sabotage


@pytest.fixture
def folder(tmp_path):
    """Pictures of a 3 and two 6s, one of them deeper, and what is none."""
    root = tmp_path / "my digits"
    for name in ("3", "6/deep/er", "7"):
        (root / name).mkdir(parents=True)
    (root / "3/a.png").write_bytes((SAMPLES / "3-dark-on-light.png").read_bytes())
    (root / "6/b.jpg").write_bytes((SAMPLES / "6-photo.jpg").read_bytes())
    (root / "6/deep/er/ö ü.jpg").write_bytes((SAMPLES / "6-photo.jpg").read_bytes())
    (root / "6/notes.txt").write_text("no picture")
    (root / "README.md").write_text("about these")
    return root


def test_a_folder_is_read_with_its_labels_in_the_order_of_paths(folder):
    found = ground_truth.from_folder(folder, champion())
    assert found.name == str(folder)
    assert list(found.names) == ["3/a.png", "6/b.jpg", "6/deep/er/ö ü.jpg"]
    assert found.digits.labels.tolist() == [3, 6, 6]
    assert (found.digits.images[1] == prepare(SAMPLES / "6-photo.jpg").pixels).all()
    assert found.files[2] == folder / "6/deep/er/ö ü.jpg"


def test_what_is_not_read_is_listed(folder):
    os.mkfifo(folder / "3/pipe")
    (folder / "3/gone.png").symlink_to("nowhere")
    found = ground_truth.from_folder(folder, champion())
    assert {file.name: file.reason.partition(",")[0] for file in found.unreadable} == {
        "3/gone.png": "there is no such file",
        "3/pipe": "this is no regular file",
        "6/notes.txt": "this is text",
    }
    assert found.unlabelled == ("README.md",)


def test_what_is_no_digit_keeps_its_refusal(folder):
    (folder / "7/blank.png").write_bytes(encoded(Image.new("L", (40, 40), 255), "PNG"))
    found = ground_truth.from_folder(folder, champion())
    assert found.refusals[-1].startswith("blank")
    assert list(found.refusals[:-1]) == [""] * 3


def test_many_files_are_read_by_processes_to_the_same_pixels(folder, monkeypatch):
    alone = ground_truth.from_folder(folder, champion())
    monkeypatch.setattr(ground_truth, "BATCH", 2)
    monkeypatch.setattr(ground_truth, "cores", lambda: 3)
    together = ground_truth.from_folder(folder, champion())
    assert (together.digits.images == alone.digits.images).all()
    assert together.unreadable == alone.unreadable


@pytest.mark.slow
def test_a_picture_that_crashes_or_hangs_its_reader_is_listed_and_the_others_are_read(
    folder, monkeypatch
):
    for side in (3, 5):
        image = encoded(Image.new("L", (side, side)), "PNG")
        (folder / f"3/{side}.png").write_bytes(image)
    sabotage(monkeypatch, SABOTAGE)
    monkeypatch.setattr(ground_truth, "SECONDS", 2)
    found = ground_truth.from_folder(folder, champion())
    reasons = {file.name: file.reason for file in found.unreadable}
    assert reasons.pop("6/notes.txt").startswith("this is text, not a picture")
    assert reasons == {
        "3/3.png": "reading it ended the process, twice (SIGSEGV)",
        "3/5.png": "reading it took longer than 2 seconds",
    }
    assert list(found.names) == ["3/a.png", "6/b.jpg", "6/deep/er/ö ü.jpg"]


@pytest.mark.parametrize("name", ["x", "10", "-1", "٣", "07", "3.png"])
def test_a_sub_folder_that_is_no_digit_is_refused(folder, name):
    (folder / name).mkdir()
    with pytest.raises(EvaluationError, match=f"sub-folder '{name}' is no digit"):
        ground_truth.from_folder(folder, champion())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is no folder that can be read"),
        (lambda path: path.write_text("a file"), "is no folder that can be read"),
        (lambda path: path.mkdir(), "no picture in it can be read; expected"),
        (
            lambda path: ((path / "3").mkdir(parents=True), (path / "3/a.txt").write_text("a")),
            r"no picture in it can be read \(3/a.txt: this is text, not a picture",
        ),
    ],
)
def test_a_folder_without_pictures_is_one_sentence(tmp_path, make, message):
    make(tmp_path / "folder")
    with pytest.raises(EvaluationError, match=message):
        ground_truth.from_folder(tmp_path / "folder", champion())


def test_test_digits_are_taken_as_they_are(small_dataset):
    found = ground_truth.from_dataset(small_dataset)
    assert found.name == "drawn test digits"
    assert found.digits is small_dataset.test
    assert (found.names[0], found.names[-1]) == ("test[0]", "test[499]")
    assert found.disputed == frozenset()
    assert found.files is None


def test_mnist_brings_its_disputed_labels(small_dataset):
    from dataclasses import replace

    assert ground_truth.from_dataset(replace(small_dataset, name="mnist")).disputed == DISPUTED
    assert len(DISPUTED) == 15


def test_what_is_hidden_and_what_is_linked_is_not_followed_but_named(folder):
    for name in (".git/objects", "__MACOSX", "6/.cache"):
        (folder / name).mkdir(parents=True)
    (folder / "6/.DS_Store").touch()
    (folder / "6/Thumbs.db").touch()
    (folder / "7/more").symlink_to(folder / "6")
    found = ground_truth.from_folder(folder, champion())
    left_out = [".git", "6/.DS_Store", "6/.cache", "6/Thumbs.db", "README.md", "__MACOSX"]
    assert list(found.unlabelled) == left_out
    assert "7/more" in [file.name for file in found.unreadable]
    assert len(found.names) == 3
