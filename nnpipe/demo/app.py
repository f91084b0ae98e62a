"""The API and the page, as an ASGI application.

    uvicorn nnpipe.demo.app:app

takes its settings from the environment: ``NNPIPE_DEMO_WEIGHTS``, a weights file, and
``NNPIPE_DEMO_ORIGINS``, the origins of pages that may ask it from elsewhere, separated by spaces.
No request names a file: the page's own are listed when the application is made.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from threadpoolctl import threadpool_limits

from nnpipe import __version__
from nnpipe.attribution import evidence
from nnpipe.classifier import Classifier
from nnpipe.demo import answers, limits
from nnpipe.errors import NnpipeError
from nnpipe.preprocess import SIDE, Picture, Pixels, as_inputs

STATIC = Path(__file__).parent / "static"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asks each time whether there is a newer one
}
"""Sent with every answer."""


def create_app(classifier: Classifier | None = None, allow_origins: Sequence[str] = ()) -> FastAPI:
    """Make the application.

    Args:
        classifier: what reads the pictures; None loads what the environment names, or the champion,
            when the application starts.
        allow_origins: origins of pages elsewhere that may ask the API, such as
            ``https://example.org``; "*" stands for all.

    Raises:
        NnpipeError: an origin is none.
    """
    for origin in allow_origins:
        if not re.fullmatch(r"\*|https?://[^/\s]+", origin):
            raise NnpipeError(f"{origin} is no origin; expected one like https://example.org, or *")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.classifier = classifier or Classifier.load(os.getenv("NNPIPE_DEMO_WEIGHTS"))
        app.state.under_way = 0
        app.state.pool = ThreadPoolExecutor(_cores(), "reader")
        # On one thread, as 'nnpipe predict' does it, BLAS adds in the same order.
        with threadpool_limits(1, "blas"):
            yield
        app.state.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="nnpipe",
        summary="A small neural network that reads handwritten digits.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load from elsewhere
        redoc_url=None,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=allow_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type"],
    )
    app.add_middleware(_Headers)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    app.post(
        "/api/predict",
        response_model=answers.Answer,
        responses=answers.PROBLEMS,
        openapi_extra={"requestBody": answers.BODY},
    )(predict)
    app.get("/api/model", response_model=answers.Model)(model)
    app.get("/healthz", response_model=answers.Health)(healthz)
    for path in STATIC.iterdir():
        for place in (
            ["/", "/static/index.html"] if path.name == "index.html" else [f"/static/{path.name}"]
        ):
            app.get(place, include_in_schema=False)(_file(path))
    return app


async def predict(
    request: Request,
    activations: Annotated[bool, Query(description="What each layer gave.")] = False,
    evidence: Annotated[bool, Query(description="Which pixels spoke for and against.")] = False,
    rival: Annotated[
        int | None,
        Query(ge=0, le=9, description="Evidence against this digit; the answer itself is none."),
    ] = None,
) -> Response:
    """Read the digit in a picture, as `nnpipe predict` does."""
    state = request.app.state
    if state.under_way >= limits.MAX_UNDER_WAY:
        raise HTTPException(
            429, "too many requests are under way; come again", {"Retry-After": "1"}
        )
    state.under_way += 1
    try:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        as_json = kind == "application/json"
        limit = limits.MAX_JSON if as_json else limits.MAX_BODY
        body = await limits.receive(request, limit)
        if not body:
            raise HTTPException(422, "the body is empty; send a picture")
        wanted = activations, evidence, rival
        work = state.pool.submit(_answer, state.classifier, body, as_json, *wanted)
        async with asyncio.timeout(limits.SECONDS):
            content = await asyncio.wrap_future(work)
    except TimeoutError:
        raise HTTPException(
            422, f"reading the picture takes longer than {limits.SECONDS:g} seconds"
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too early") from None
    finally:
        state.under_way -= 1
    return Response(content, media_type="application/json")


async def model(request: Request) -> answers.Model:
    """Tell which network reads here."""
    classifier: Classifier = request.app.state.classifier
    network, metadata = classifier.model
    return answers.Model(
        layer_sizes=list(network.sizes),
        parameters=sum(layer.W.size + layer.b.size for layer in network.layers),
        dataset=metadata.dataset,
        recipe=metadata.recipe,
        seed=metadata.seed,
        created=metadata.created,
        validation_accuracy=metadata.validation_accuracy,
        test_accuracy=metadata.test_accuracy,
        preprocessing_version=metadata.preprocessing_version,
        temperature=metadata.temperature,
        threshold=classifier.threshold,
        nnpipe=__version__,
    )


async def healthz() -> answers.Health:
    """Tell that the server answers."""
    return answers.Health(status="ok")


def _answer(
    classifier: Classifier,
    body: bytes,
    as_json: bool,
    activations: bool,
    evidence: bool,
    rival: int | None,
) -> bytes:
    """Read a picture, and write the answer as `answers.Answer` has it; runs in a thread."""
    picture: Picture
    if as_json:
        picture = _as_picture(body)
    else:
        picture = limits.Deadline(body, limits.SECONDS)
        limits.check_header(picture)
    reading = classifier.read(picture)
    if reading.probabilities is None or reading.pixels is None:
        raise HTTPException(422, reading.reason)
    answer = {**reading._asdict(), "pixels": reading.pixels.tolist()}
    inputs = as_inputs(reading.pixels[np.newaxis])
    if activations:
        *hidden, logits = classifier.model.network.activations(inputs)[1:]
        answer["activations"] = {
            "hidden": [_rounded(layer[0]) for layer in hidden],
            "logits": _rounded(logits[0]),
        }
    if evidence:
        label = int(np.argmax(reading.probabilities))
        answer["evidence"] = _evidence(classifier, inputs[0], label, rival)
    return json.dumps(answer, separators=(",", ":")).encode()


def _evidence(
    classifier: Classifier, x: np.ndarray, label: int, rival: int | None
) -> dict[str, Any]:
    rival = None if rival == label else rival
    found = evidence(classifier.model.network, x, label, rival)
    return {
        "label": label,
        "rival": rival,
        "pixels": _rounded(found.pixels.reshape(SIDE, SIDE)),
        "bias": round(found.bias, 6),
        "difference": round(found.difference, 6),
    }


def _rounded(array: np.ndarray) -> Any:
    return array.astype(np.float64).round(6).tolist()


def _as_picture(body: bytes) -> Pixels:
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
        raise HTTPException(
            422, "expected rows of numbers, all of the same length, or 784 numbers as 28 rows"
        )
    if not ((array >= 0) & (array <= 255)).all():  # written so that NaN is refused, too
        raise HTTPException(422, "a brightness must lie in 0…255")
    pixels: Pixels = np.rint(array).astype(np.uint8)
    return pixels


def _file(path: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(path)

    return send


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say in a sentence which parameter is out of its range."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    said = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems]
    return JSONResponse({"detail": "; ".join(said)}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Answer a bug; the server's log has it. It passes no middleware on its way."""
    return JSONResponse({"detail": "this is a bug of the server; its log says more"}, 500, HEADERS)


class _Headers:
    """Puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


app = create_app(allow_origins=os.getenv("NNPIPE_DEMO_ORIGINS", "").split())
