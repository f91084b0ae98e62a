"""Whatever is sent to the drawing page's API, it answers, and never with a 5xx."""

import io
import json
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import CHECKS, load_all_checks

from nnpipe.demo.app import create_app
from nnpipe.demo.schema import Answer, NumberAnswer
from nnpipe.preprocess.decoders import DECODERS

from .conftest import ROOT
from .serving import PREDICT, process

FEW, MANY = 100, 5000
SIZES = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
load_all_checks()
accepted, rejected = CHECKS.get_by_names(["positive_data_acceptance", "negative_data_rejection"])
REFUSALS = {400, 413, 415, 422}


@pytest.fixture(scope="module")
def client():
    """A server in a process of its own; in the end it must be there, and have said no error."""
    with process("uvicorn", "nnpipe.demo.app:app", "--port", "0") as (running, client):
        yield client
        assert client.get("/healthz").json == {"status": "ok"}
        assert "Traceback" not in running.said()


def bounded(examples):
    """So many examples, found anew each time."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def check(response):
    """It is an answer as the description has it, or a refusal with a sentence."""
    if response.status == 200:
        kind = Answer if "probabilities" in response.json else NumberAnswer
        kind.model_validate_json(response.content, strict=True)
    else:
        assert response.status in REFUSALS
        assert set(response.json) == {"detail"}
        assert response.json["detail"]


schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(allow_hosts=["*"]))


def ask(case):
    """Send what schemathesis made up, and hold the answer against the description."""
    response = case.call()
    # A schema cannot say that rows have one length, nor which bytes are a picture. What is too
    # large is refused before it is known to be wrong, too.
    excluded = [accepted, rejected] if response.status_code == 413 else [accepted]
    case.validate_response(response, excluded_checks=excluded)


@schema.parametrize()
@bounded(FEW)
def test_the_api_is_as_described(case):
    ask(case)


@pytest.mark.slow
@schema.parametrize()
@bounded(MANY)
def test_the_api_is_as_described_at_length(case):
    ask(case)


def encode(kind):
    """A small picture of a 4 in a format."""
    picture = Image.open(ROOT / "samples" / "4-mnist-like.png").convert("L")
    stream = io.BytesIO()
    picture.save(stream, kind, **({"progressive": True} if kind == "JPEG" else {}))
    return stream.getvalue()


PICTURES = {name: encode(name) for name, _ in DECODERS.values()}
COLOURS = {path.name: path.read_bytes() for path in (ROOT / "samples").glob("[0-9]-*[0-9a-z].???")}
SEEDS = [*PICTURES.values(), *(c for c in COLOURS.values() if len(c) < 5000)]

KINDS = st.sampled_from(["", "image/png", "application/json", "application/JSON; charset=x", "a/b"])


@st.composite
def damaged(draw):
    """A picture of any format with some bytes changed, doubled, cut out or cut off."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        # Headers are short and decide most: half of all damage is done to them.
        last = draw(st.sampled_from([min(64, len(content)), len(content)]))
        place = draw(st.integers(0, last))
        length = draw(st.integers(1, 16))
        change = draw(st.sampled_from(["put", "insert", "cut", "double", "end"]))
        if change == "put":
            content[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif change == "insert":
            content[place:place] = draw(st.binary(min_size=length, max_size=length))
        elif change == "cut":
            del content[place : place + length]
        elif change == "double":
            content[place:place] = content[place : place + 16 * length]
        else:
            del content[place:]
    return bytes(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
)
ROWS = st.lists(st.lists(st.integers(-1, 256) | st.floats(), max_size=4), max_size=4)


@pytest.mark.parametrize("kind", PICTURES)
def test_a_sound_picture_of_every_format_is_read(client, kind):
    assert client.post(PICTURES[kind]).json["label"] == 4


@pytest.mark.parametrize("options", ["activations=1&evidence=1", "digits=any"])
@pytest.mark.parametrize("examples", SIZES)
def test_damaged_pictures_are_read_or_refused(client, examples, options):
    @bounded(examples)
    @given(damaged())
    def send(body):
        check(client.post(body, f"{PREDICT}?{options}"))

    send()


@pytest.mark.parametrize("examples", SIZES)
def test_any_bytes_are_read_or_refused(client, examples):
    """Whatever is declared of them, and whatever begins like a picture."""

    @bounded(examples)
    @given(st.sampled_from([b"", *(seed[:16] for seed in SEEDS)]), st.binary(max_size=300), KINDS)
    def send(start, body, kind):
        check(client.post(start + body, kind=kind))

    send()


@pytest.mark.parametrize("examples", SIZES)
def test_any_json_is_read_or_refused(client, examples):
    @bounded(examples)
    @given(JSON | ROWS)
    def send(value):
        check(client.post_json(value))

    send()


@pytest.mark.parametrize("examples", SIZES)
def test_any_query_is_understood_or_refused(client, examples):
    body = json.dumps([[0, 255], [255, 0]])
    names = st.sampled_from(["digits", "activations", "evidence", "rival"]) | st.text()
    values = st.integers(-1, 33) | st.booleans() | st.sampled_from(["any", "2-6"]) | st.text()

    @bounded(examples)
    @given(st.lists(st.tuples(names, values), max_size=4))
    def send(pairs):
        query = "&".join(f"{quote(name)}={quote(str(value))}" for name, value in pairs)
        check(client.post(body, f"{PREDICT}?{query}", kind="application/json"))

    send()
