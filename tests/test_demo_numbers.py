"""The API of the drawing page reads numbers of several digits as `Classifier.read` does."""

import io
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from nnpipe.classifier import Classifier
from nnpipe.datasets import drawn
from nnpipe.demo import answers
from nnpipe.demo.schema import NumberAnswer

from .serving import PREDICT, process

NUMBER = "602"
SIZE = 200  # of a digit's field, in pixels


@pytest.fixture(scope="module")
def client():
    with process("uvicorn", "nnpipe.demo.app:app", "--port", "0") as (_, client):
        yield client


@pytest.fixture(scope="module")
def rows():
    """A number in large, clean digits, as rows of brightness."""
    paper = np.full((SIZE, SIZE * len(NUMBER)), 255, np.uint8)
    for place, digit in enumerate(NUMBER):
        hand = drawn.compile_forms([[(1.0, drawn.FORMS["american"][digit][0][1])]])
        path = hand.spline[0] @ hand.controls[0]
        middle = (path.min(0) + path.max(0)) / 2
        points = (path - middle) * 0.7 * SIZE + [SIZE * (place + 0.5), SIZE / 2]
        for stroke in np.split(points.round().astype(np.int32), np.flatnonzero(hand.lifted[0])):
            cv2.polylines(paper, [stroke], False, 0, 12, cv2.LINE_AA)
    return paper


def encode(pixels, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def test_a_number_is_read_as_by_the_classifier(client, rows):
    picture = encode(rows)
    expected = Classifier.load().read(picture, digits="any")
    response = client.post(picture, f"{PREDICT}?digits=any")
    assert response.status == 200
    answer = NumberAnswer.model_validate_json(response.content, strict=True)
    assert answer.label == expected.label == NUMBER
    assert response.json == {
        **expected.shown,
        "digits": [digit._asdict() for digit in expected.digits],
    }
    for place, digit in enumerate(answer.digits):
        assert digit.digit == int(NUMBER[place])
        assert SIZE * place < digit.left < digit.right < SIZE * (place + 1)
        assert 0 < digit.top < digit.bottom < SIZE


def test_an_array_of_a_number_is_read(client, rows):
    small = cv2.resize(rows, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert client.post_json(small.tolist(), f"{PREDICT}?digits=any").json["label"] == NUMBER


def test_how_many_digits_there_are_can_be_said(client, rows):
    picture = encode(rows)
    for digits in ("3", "2-6"):
        assert client.post(picture, f"{PREDICT}?digits={digits}").json["label"] == NUMBER
    two = client.post(picture, f"{PREDICT}?digits=2").json
    assert two["status"] == "rejected" or len(two["label"]) == 2


def test_a_number_is_refused_unless_it_is_asked_for(client, rows):
    answer = client.post(encode(rows)).json
    assert answer["status"] == "rejected"
    assert answer["reason"].startswith("several marks")


def test_a_blank_is_no_number(client):
    response = client.post(encode(np.full((90, 300), 255, np.uint8)), f"{PREDICT}?digits=any")
    assert response.status == 200
    assert response.json["status"] == "rejected"
    assert response.json["reason"].startswith("blank")
    assert response.json["digits"] == []


@pytest.mark.parametrize("digits", ["", "0", "33", "6-2", "-3", "many", "1,5", "9" * 50])
def test_other_values_are_refused_in_a_sentence(client, rows, digits):
    response = client.post(encode(rows), f"{PREDICT}?digits={digits}")
    assert response.status == 422
    assert response.json == {"detail": "digits: expected any, 4 or 2-6, and at most 32 digits"}


def test_what_is_no_picture_is_no_number(client):
    assert client.post(b"Dear reader", f"{PREDICT}?digits=any").status == 415


@pytest.mark.slow
@pytest.mark.parametrize("grain", [0, 3, 12])
def test_a_large_picture_of_noise_is_answered_in_time(client, grain):
    """Within the time limit for one picture, on plain noise and on blots."""
    noise = np.random.default_rng(0).integers(0, 256, (4000, 6000)).astype(np.uint8)
    if grain:
        noise = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), grain), None, 0, 255, cv2.NORM_MINMAX)
    picture = encode(noise, "JPEG", quality=30)
    start = time.monotonic()
    response = client.post(picture, f"{PREDICT}?digits=any")
    assert time.monotonic() - start < answers.SECONDS
    assert response.status == 422 or response.json["status"] == "rejected"
