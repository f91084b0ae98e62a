"""The API and the page, as an ASGI application.

    uvicorn nnpipe.demo.app:app

reads its settings from the environment. ``NNPIPE_DEMO_WEIGHTS`` is a weights file,
``NNPIPE_DEMO_ORIGINS`` are the origins of other pages that may use the API, and
``NNPIPE_DEMO_HOSTS`` are further names that the server answers to, such as a proxy's; spaces
separate them. Requests never name a file: the files of the page are listed at the start.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nnpipe import __version__
from nnpipe.classifier import Classifier
from nnpipe.demo import answers, schema
from nnpipe.errors import NnpipeError
from nnpipe.processes import cores

STATIC = Path(__file__).parent / "static"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # the browser asks each time for a newer version
}
"""Headers of every answer."""

OTHER_HOST = "the server does not answer to this Host; its setting NNPIPE_DEMO_HOSTS adds names"


def create_app(
    classifier: Classifier | None = None,
    *,
    allow_origins: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> FastAPI:
    """Make the application.

    Args:
        classifier: reads the pictures; by default the one that the environment names, or the
            champion, which is loaded when the application starts.
        allow_origins: origins of other pages that may use the API, such as
            ``https://example.org``; "*" stands for all.
        allow_hosts: names that the server answers to, in addition to those of this machine; "*"
            stands for all.

    Raises:
        NnpipeError: an origin is not valid.
    """
    for origin in allow_origins:
        if not re.fullmatch(r"\*|https?://[^/\s]+", origin):
            raise NnpipeError(f"{origin} is not an origin such as https://example.org, or *")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.classifier = classifier or Classifier.load(os.getenv("NNPIPE_DEMO_WEIGHTS"))
        app.state.under_way = 0
        app.state.pool = ThreadPoolExecutor(cores(), "reader")
        yield
        app.state.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="nnpipe",
        summary="A small neural network that reads handwritten digits.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load files from other servers
        redoc_url=None,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=allow_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Content-Type"],
    )
    app.add_middleware(_Door, names={name.lower() for name in allow_hosts})
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    app.post(
        "/api/predict",
        response_model=schema.Answer | schema.NumberAnswer,
        responses=schema.RESPONSES,
        openapi_extra={"requestBody": schema.BODY},
    )(predict)
    app.get("/api/model", response_model=schema.ServedNetwork)(model)
    app.get("/healthz", response_model=schema.Health)(healthz)
    app.get("/", include_in_schema=False)(_file(STATIC / "index.html"))
    for path in STATIC.iterdir():
        app.get(f"/{path.name}", include_in_schema=False)(_file(path))
    return app


async def predict(request: Request, options: Annotated[schema.Options, Query()]) -> Response:
    """Read the digit or the number in a picture, as `nnpipe predict` does."""
    state = request.app.state
    if state.under_way >= answers.MAX_UNDER_WAY:
        raise HTTPException(429, "the server has too many requests; try again", answers.BUSY)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = kind == "application/json"
    state.under_way += 1
    try:
        body = await answers.receive(request, answers.MAX_JSON if as_json else answers.MAX_BODY)
        read = partial(answers.answer, as_json=as_json, options=options)
        work = state.pool.submit(read, state.classifier, body)
        reading, leaving = asyncio.wrap_future(work), asyncio.ensure_future(request.receive())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait((reading, leaving), timeout=answers.WAIT, return_when=first)
        leaving.cancel()
        if work.cancel():  # no reader has started it
            why = f"all readers have been busy for {answers.WAIT:g} seconds; try again"
            raise HTTPException(503, why, answers.BUSY)
        async with asyncio.timeout(answers.SECONDS):
            content = await reading
    except TimeoutError:
        raise HTTPException(422, answers.TOO_LONG.format(answers.SECONDS)) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body is incomplete") from None
    finally:
        state.under_way -= 1
    return Response(content, media_type="application/json")


async def model(request: Request) -> schema.ServedNetwork:
    """Return facts about the network."""
    classifier: Classifier = request.app.state.classifier
    network, metadata = classifier.weights
    parameters = sum(array.size for layer in network.layers for array in layer)
    facts = asdict(metadata) | {"parameters": parameters, "threshold": classifier.threshold}
    return schema.ServedNetwork(**facts, nnpipe=__version__)


async def healthz() -> schema.Health:
    """Return that the server is running."""
    return schema.Health()


def _file(path: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(path)

    return send


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer in one sentence which parameter is out of its range."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"detail": "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in problems)}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Answer after a bug; no middleware sees this answer. The log has the details."""
    return JSONResponse({"detail": "a bug in the server; its log has details"}, 500, HEADERS)


def answers_to(host: str, names: set[str]) -> bool:
    """Return True if a ``Host`` header is an IP address, a name of this machine, or in `names`.

    A malicious page can point its own name to this machine (DNS rebinding), and then the browser
    lets it read the answers of this server. The ``Host`` header of such a request has the name of
    that page. Requests by IP address are safe, because an address cannot be redirected.

    Args:
        host: the header, with or without a port.
        names: further names, in lower case; "*" stands for all.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        allowed = {"localhost", socket.gethostname().lower(), *names}
        return bool({name, "*"} & allowed or ip_address(name))
    return False


class _Door:
    """Refuse requests for other hosts, and add `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, *, names: set[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self.app
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            app = app if answers_to(host, self.names) else JSONResponse({"detail": OTHER_HOST}, 421)
        await app(scope, receive, send_with_headers)


app = create_app(
    allow_origins=os.getenv("NNPIPE_DEMO_ORIGINS", "").split(),
    allow_hosts=os.getenv("NNPIPE_DEMO_HOSTS", "").split(),
)
