"""From a request's bytes to the bytes of its answer; this runs in threads."""

import json
from typing import Any, NamedTuple

import numpy as np
from fastapi import HTTPException

from nnpipe.attribution import evidence
from nnpipe.classifier import Classifier
from nnpipe.demo import limits
from nnpipe.preprocess import SIDE, Picture, Pixels, as_inputs


class Wanted(NamedTuple):
    """What a request asks for beside the digit."""

    activations: bool
    evidence: bool
    rival: int | None


def answer(classifier: Classifier, body: bytes, as_json: bool, wanted: Wanted) -> bytes:
    """Read a picture, and write what `schema.Answer` describes, as JSON.

    Args:
        classifier: what reads it.
        body: the bytes of a picture, or of a JSON array.
        as_json: which of both it is.
        wanted: what is to be told beside the digit.

    Raises:
        HTTPException: 400, 413, 415 or 422, with a sentence; it cannot be read.
    """
    reading = classifier.read(from_json(body) if as_json else from_bytes(body))
    if reading.probabilities is None or reading.pixels is None:
        raise HTTPException(422, reading.reason)
    told = {**reading._asdict(), "pixels": reading.pixels.tolist()}
    network = classifier.network
    inputs = as_inputs(reading.pixels[np.newaxis])
    if wanted.activations:
        _, *hidden, logits = (_rounded(layer[0]) for layer in network.activations(inputs))
        told["activations"] = {"hidden": hidden, "logits": logits}
    if wanted.evidence:
        label = int(np.argmax(reading.probabilities))
        rival = None if wanted.rival == label else wanted.rival
        found = evidence(network, inputs[0], label=label, rival=rival)
        told["evidence"] = {
            "label": label,
            "rival": rival,
            "pixels": _rounded(found.pixels.reshape(SIDE, SIDE)),
            "bias": round(found.bias, 6),
            "difference": round(found.difference, 6),
        }
    return json.dumps(told, separators=(",", ":")).encode()


def _rounded(array: np.ndarray) -> Any:
    return array.round(6).tolist()


def from_bytes(body: bytes) -> Picture:
    """A picture whose header is checked, and that can be read for a limited time.

    Raises:
        HTTPException: 413 or 415.
    """
    picture = limits.Deadline(body, limits.SECONDS)
    limits.check_header(picture)
    return picture


def from_json(body: bytes) -> Pixels:
    """Rows of brightness, or 784 numbers, from JSON.

    Raises:
        HTTPException: 400, it is no JSON; 422, it is no such array.
    """
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON ({error})") from None
    try:
        array = np.array(rows)
    except ValueError:  # rows of different length
        array = np.array(None)
    if array.shape == (SIDE * SIDE,):
        array = array.reshape(SIDE, SIDE)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise HTTPException(422, "expected rows of numbers of one length, or 784 numbers as 28")
    if not ((array >= 0) & (array <= 255)).all():  # written so that NaN is refused, too
        raise HTTPException(422, "a brightness must lie in 0…255")
    pixels: Pixels = np.rint(array).astype(np.uint8)
    return pixels
