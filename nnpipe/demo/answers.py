"""The bytes of a request → the bytes of its answer. This code runs in threads."""

import json
from typing import Any, NamedTuple

import numpy as np
from fastapi import HTTPException

from nnpipe.attribution import evidence
from nnpipe.classifier import Classifier
from nnpipe.demo import limits
from nnpipe.preprocess import SIDE, Picture, Pixels, as_inputs


class Extras(NamedTuple):
    """Which parts of an answer are optional, and requested."""

    activations: bool
    evidence: bool
    rival: int | None


def answer(classifier: Classifier, body: bytes, *, as_json: bool, extras: Extras) -> bytes:
    """Read a picture, and return a `schema.Answer` as JSON.

    Args:
        classifier: reads the picture.
        body: the bytes of a picture, or of a JSON array.
        as_json: the body is a JSON array.
        extras: what to add to the answer.

    Raises:
        HTTPException: 400, 413, 415 or 422: the picture cannot be read; the detail says why.
    """
    reading = classifier.read(from_json(body) if as_json else from_bytes(body))
    if reading.probabilities is None or reading.pixels is None:
        raise HTTPException(422, reading.reason)
    content = {**vars(reading), "pixels": reading.pixels.tolist()}
    network = classifier.network
    inputs = as_inputs(reading.pixels[np.newaxis])
    if extras.activations:
        _, *hidden, logits = (_rounded(layer[0]) for layer in network.activations(inputs))
        content["activations"] = {"hidden": hidden, "logits": logits}
    if extras.evidence:
        label = int(np.argmax(reading.probabilities))
        rival = None if extras.rival == label else extras.rival
        parts = evidence(network, inputs[0], label=label, rival=rival)
        content["evidence"] = {
            "label": label,
            "rival": rival,
            "pixels": _rounded(parts.pixels.reshape(SIDE, SIDE)),
            "bias": round(parts.bias, 6),
            "difference": round(parts.difference, 6),
        }
    return json.dumps(content, separators=(",", ":")).encode()


def _rounded(array: np.ndarray) -> Any:
    return array.round(6).tolist()


def from_bytes(body: bytes) -> Picture:
    """Check the header of a picture, and return its bytes, readable for a limited time.

    Raises:
        HTTPException: 413 or 415.
    """
    picture = limits.Deadline(body, limits.SECONDS)
    limits.check_header(picture)
    return picture


def from_json(body: bytes) -> Pixels:
    """Read rows of brightness, or 784 numbers, from JSON.

    Raises:
        HTTPException: 400: the body is not JSON; 422: it is not such an array.
    """
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON ({error})") from None
    try:
        array = np.array(rows)
    except ValueError:  # rows of different length
        array = np.array(None)
    if array.shape == (SIDE * SIDE,):
        array = array.reshape(SIDE, SIDE)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise HTTPException(422, "expected rows of numbers of one length, or 784 numbers as 28")
    if not ((array >= 0) & (array <= 255)).all():  # also refuses NaN
        raise HTTPException(422, "a brightness must lie in 0…255")
    return np.rint(array).astype(np.uint8)  # type: ignore[no-any-return]
