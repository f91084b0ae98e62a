"""The API and the page, as an ASGI application.

    uvicorn nnpipe.demo.app:app

takes its settings from the environment: ``NNPIPE_DEMO_WEIGHTS``, a weights file;
``NNPIPE_DEMO_ORIGINS``, the origins of pages that may ask it from elsewhere; and
``NNPIPE_DEMO_HOSTS``, the names it answers to, such as a proxy's. Spaces separate them.
No request names a file: the page's own are listed when the application is made.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nnpipe import __version__
from nnpipe.classifier import Classifier
from nnpipe.demo import answers, limits, schema
from nnpipe.demo.hosts import answers_to
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
    "Cache-Control": "no-cache",  # asks each time whether there is a newer one
}
"""Sent with every answer."""

OTHER_HOST = "the server does not answer to this Host; --allow-host or NNPIPE_DEMO_HOSTS adds one"


def create_app(
    classifier: Classifier | None = None,
    allow_origins: Sequence[str] = (),
    *,
    allow_hosts: Sequence[str] = (),
) -> FastAPI:
    """Make the application.

    Args:
        classifier: what reads the pictures; None loads what the environment names, or the champion,
            when the application starts.
        allow_origins: origins of pages elsewhere that may ask the API, such as
            ``https://example.org``; "*" stands for all.
        allow_hosts: names that it answers to beside this machine's; "*" stands for all.

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
        app.state.pool = ThreadPoolExecutor(cores(), "reader")
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
    app.add_middleware(_Door, names={name.lower() for name in allow_hosts})
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    app.post(
        "/api/predict",
        response_model=schema.Answer,
        responses=schema.RESPONSES,
        openapi_extra={"requestBody": schema.BODY},
    )(predict)
    app.get("/api/model", response_model=schema.Model)(model)
    app.get("/healthz", response_model=schema.Health)(healthz)
    app.get("/", include_in_schema=False)(_file(STATIC / "index.html"))
    for path in STATIC.iterdir():
        app.get(f"/{path.name}", include_in_schema=False)(_file(path))
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
        raise HTTPException(429, "too many requests are under way; come again", limits.BUSY)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = kind == "application/json"
    wanted = answers.Wanted(activations, evidence, rival)
    state.under_way += 1
    try:
        body = await limits.receive(request, limits.MAX_JSON if as_json else limits.MAX_BODY)
        work = state.pool.submit(answers.answer, state.classifier, body, as_json, wanted)
        reading, leaving = asyncio.wrap_future(work), asyncio.ensure_future(request.receive())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait((reading, leaving), timeout=limits.WAIT, return_when=first)
        leaving.cancel()
        if work.cancel():  # no reader has taken it
            why = f"all readers are busy for {limits.WAIT:g} seconds; come again"
            raise HTTPException(503, why, limits.BUSY)
        async with asyncio.timeout(limits.SECONDS):
            content = await reading
    except TimeoutError:
        raise HTTPException(422, limits.TOO_LONG.format(limits.SECONDS)) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too early") from None
    finally:
        state.under_way -= 1
    return Response(content, media_type="application/json")


async def model(request: Request) -> schema.Model:
    """Tell which network reads here."""
    classifier: Classifier = request.app.state.classifier
    metadata = asdict(classifier.weights.metadata)
    return schema.Model(
        **{name: metadata[name] for name in schema.Model.model_fields.keys() & metadata.keys()}
        | {"parameters": sum(W.size + b.size for W, b in classifier.weights.network.layers)}
        | {"threshold": classifier.threshold, "nnpipe": __version__}
    )


async def healthz() -> schema.Health:
    """Tell that the server answers."""
    return schema.Health()


def _file(path: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(path)

    return send


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say in a sentence which parameter is out of its range."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    return JSONResponse({"detail": "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in problems)}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Answer a bug; the server's log has it. It passes no middleware on its way."""
    return JSONResponse({"detail": "this is a bug of the server; its log says more"}, 500, HEADERS)


class _Door:
    """Refuses requests for other hosts, and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
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
