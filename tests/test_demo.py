"""The API of the drawing page reads as `nnpipe predict` does, and no request harms it."""

import http.client
import io
import json
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from PIL import Image, ImageFile

from nnpipe import Classifier
from nnpipe.demo import answers, server
from nnpipe.demo import app as application
from nnpipe.demo.app import HEADERS, STATIC, create_app
from nnpipe.errors import NnpipeError

from .conftest import ROOT
from .serving import ENVIRONMENT, PREDICT, SECONDS, process, serving

POST = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n"
SAMPLES = sorted((ROOT / "samples").iterdir())


@pytest.fixture(scope="module")
def client():
    """The server as it is started behind a proxy."""
    with process("uvicorn", "nnpipe.demo.app:app", "--port", "0") as (_, client):
        yield client


@pytest.fixture(scope="module")
def here():
    """A server in this process."""
    with serving(create_app(Classifier.load())) as client:
        yield client


@pytest.fixture(scope="module")
def predicted():
    """What `nnpipe predict` says of each sample."""
    command = [sys.executable, "-m", "nnpipe.cli", "predict", "--json", "--show-input", *SAMPLES]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=120)
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(readings) == len(SAMPLES)
    assert {reading.pop("page") for reading in readings} == {1}
    return {reading.pop("path"): reading for reading in readings}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_read_as_by_nnpipe_predict(client, predicted, sample):
    """Digit for digit; and what that calls an error is refused, with a sentence."""
    expected = predicted[str(sample)]
    response = client.post(sample.read_bytes())
    if expected["status"] == "error":
        assert response.status in (413, 415, 422)
        assert response.json["detail"]
    else:
        expected["probabilities"] = list(expected["probabilities"].values())
        assert response.status == 200
        assert response.json == expected


THREE = (ROOT / "samples" / "3-dark-on-light.png").read_bytes()


@pytest.fixture(scope="module")
def rows():
    """A 4 as rows of brightness."""
    picture = Image.open(ROOT / "samples" / "4-mnist-like.png").convert("L")
    return np.asarray(picture).tolist()


def test_an_array_is_read_as_the_same_picture_is(client, rows):
    expected = client.post((ROOT / "samples" / "4-mnist-like.png").read_bytes()).json
    flat = [level for row in rows for level in row]
    assert client.post_json(rows).json == expected
    assert client.post_json(flat).json == expected
    assert client.post_json([[float(level) for level in row] for row in rows]).json == expected
    assert expected["label"] == 4
    large = np.kron(rows, np.ones((3, 5))).astype(int)
    answer = client.post_json(large.tolist()).json
    assert (answer["width"], answer["height"]) == (140, 84)


@pytest.mark.parametrize(
    "kind", ["image/png", "text/plain", "", "application/x-www-form-urlencoded"]
)
def test_a_picture_may_be_declared_as_anything(client, kind):
    assert client.post(THREE, kind=kind).json["label"] == 3


def test_activations_come_when_asked_for(client, rows):
    answer = client.post_json(rows, f"{PREDICT}?activations=true").json
    hidden = answer["activations"]["hidden"]
    assert [len(layer) for layer in hidden] == [128, 64]
    assert all(min(layer) == 0 < max(layer) for layer in hidden)
    logits = np.array(answer["activations"]["logits"])
    shares = np.exp(logits / Classifier.load().weights.metadata.temperature)
    np.testing.assert_allclose(shares / shares.sum(), answer["probabilities"], atol=1e-5)
    assert "evidence" not in answer


@pytest.mark.parametrize(("rival", "used"), [("", None), ("&rival=9", 9), ("&rival=4", None)])
def test_evidence_comes_when_asked_for(client, rows, rival, used):
    """It adds up; and the digit itself counts as no rival."""
    answer = client.post_json(rows, f"{PREDICT}?activations=1&evidence=1{rival}").json
    logits, found = answer["activations"]["logits"], answer["evidence"]
    assert (found["label"], found["rival"]) == (4, used)
    others = logits[9] if used else np.delete(logits, 4).mean()
    assert found["difference"] == pytest.approx(logits[4] - others, abs=1e-4)
    assert np.sum(found["pixels"]) + found["bias"] == pytest.approx(found["difference"], abs=1e-3)
    assert np.shape(found["pixels"]) == (28, 28)


def test_what_is_rejected_has_evidence_too(client):
    blank = (ROOT / "samples" / "no-digit-blank.png").read_bytes()
    answer = client.post(blank, f"{PREDICT}?evidence=true").json
    assert (answer["status"], answer["label"]) == ("rejected", None)
    assert "blank" in answer["reason"]
    assert answer["evidence"]["label"] == int(np.argmax(answer["probabilities"]))
    assert answer["evidence"]["bias"] == pytest.approx(answer["evidence"]["difference"], abs=1e-5)


def test_the_model_tells_what_it_is(client):
    about = client.get("/api/model").json
    assert (about["layer_sizes"], about["parameters"]) == ([784, 128, 64, 10], 109_386)
    metadata = Classifier.load().weights.metadata
    assert about["test_accuracy"] == metadata.test_accuracy
    assert about["dataset"] == "mnist"


def test_it_is_well(client):
    assert client.get("/healthz").json == {"status": "ok"}


def test_the_page_and_its_files_are_served(client):
    page = client.get("/")
    assert page.headers.get_content_type() == "text/html"
    assert page.content == (STATIC / "index.html").read_bytes()
    for path in STATIC.iterdir():
        assert client.get(f"/{path.name}").content == path.read_bytes()
    kinds = {client.get(f"/{p.name}").headers["content-type"] for p in STATIC.glob("*.js")}
    assert kinds <= {"text/javascript; charset=utf-8", "application/javascript"}


def test_the_description_is_complete_and_nothing_is_loaded_from_elsewhere(client):
    described = client.get("/openapi.json").json
    assert set(described["paths"]) == {PREDICT, "/api/model", "/healthz"}
    assert "://" not in json.dumps(described)
    assert client.get("/docs").status == client.get("/redoc").status == 404


def many_frames(n):
    """A GIF of so many frames, most of them empty."""
    stream = io.BytesIO()
    frames = [Image.new("L", (60, 60), level) for level in (0, 255)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    # An image descriptor, the size of a code, one block with the codes "clear" and "end".
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0" + b"\x02" + b"\x02\x4c\x01" + b"\0"
    return stream.getvalue()[:-1] + n * frame + b"\x3b"


def many_scans(n):
    """A progressive JPEG whose last scan is there so many times."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + n * last + content[-2:]


def flat_png(side):
    """A PNG of few bytes and many pixels."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


NOT_READ = {
    "nothing": (b"", "", 422, "the body is empty"),
    "text": (b"hello", "", 415, "not a picture"),
    "a path": (str(SAMPLES[0]).encode(), "", 415, "not a picture"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "not a picture"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "", 415, "not a picture"),
    "half a PNG": (THREE[: len(THREE) // 2], "image/png", 422, "damaged"),
    "a form": (b"--x\r\n\r\n" + THREE, "multipart/form-data; boundary=x", 415, "not a picture"),
    "too many pixels": (flat_png(5001), "image/png", 413, "25 million pixels"),
    "a bomb": (flat_png(20000), "image/png", 413, "25 million pixels"),
    "too many scans": (many_scans(100), "image/jpeg", 413, "100 scans"),
    "too many bytes": (bytes(answers.MAX_BODY + 1), "", 413, "10 MiB"),
    "no JSON": (b"[[1, 2], [3", "application/json", 400, "not JSON"),
    "not UTF-8": (b"[[\xff]]", "application/json", 400, "not JSON"),
    "deep JSON": (b"[" * 100_000, "application/json", 400, "not JSON"),
    "much JSON": (b"[" + b"1," * 600_000 + b"1]", "application/json; charset=utf-8", 413, "1 MiB"),
    "a number": (b"5", "application/json", 422, "rows of numbers"),
    "an object": (b'{"pixels": []}', "application/json", 422, "rows of numbers"),
    "a path in JSON": (json.dumps(str(SAMPLES[0])), "application/json", 422, "rows of numbers"),
    "no rows": (b"[]", "application/json", 422, "rows of numbers"),
    "empty rows": (b"[[], []]", "application/json", 422, "rows of numbers"),
    "ragged rows": (b"[[1, 2], [3]]", "application/json", 422, "rows of numbers"),
    "783 numbers": (json.dumps([0] * 783), "application/json", 422, "rows of numbers"),
    "texts": (b'[["1", "2"]]', "application/json", 422, "rows of numbers"),
    "nulls": (b"[[null, 2]]", "application/json", 422, "rows of numbers"),
    "truths": (b"[[true, false]]", "application/json", 422, "rows of numbers"),
    "a colour picture": (b"[[[1, 2, 3]]]", "application/json", 422, "rows of numbers"),
    "too bright": (b"[[0, 256]]", "application/json", 422, "0…255"),
    "too dark": (b"[[0, -1]]", "application/json", 422, "0…255"),
    "no number": (b"[[0, NaN]]", "application/json", 422, "0…255"),
    "huge numbers": (b"[[0, 1e999]]", "application/json", 422, "0…255"),
    "huge integers": (b"[[0, 1" + b"0" * 30 + b"]]", "application/json", 422, "rows of numbers"),
    "a huge integer": (b"[[" + b"9" * 9999 + b"]]", "application/json", 400, "not JSON"),
}


@pytest.mark.parametrize(("body", "kind", "status", "words"), NOT_READ.values(), ids=NOT_READ)
def test_what_cannot_be_read_is_refused_with_a_sentence(client, body, kind, status, words):
    response = client.post(body, kind=kind)
    assert response.status == status
    assert words in response.json["detail"]


@pytest.mark.parametrize("query", ["rival=10", "rival=x", "activations=maybe", "evidence=2"])
def test_a_parameter_out_of_its_range_is_named(client, query):
    response = client.post(
        THREE, f"{PREDICT}?evidence=1&{query}".replace("evidence=1&evidence", "evidence")
    )
    assert response.status == 422
    assert response.json["detail"].startswith(query.partition("=")[0])


def test_a_body_without_a_length_is_limited_too(client):
    """Chunks are counted as they come: the sender never says how many there are."""
    chunk = bytes(2**20)
    response = client.post((chunk for _ in range(11)), encode_chunked=True)
    assert response.status == 413
    assert "10 MiB" in response.json["detail"]
    assert client.post(iter([THREE[:50], THREE[50:]]), encode_chunked=True).json["label"] == 3


def test_a_body_without_end_is_not_read_to_its_end(client):
    sent = 0
    with socket.create_connection(("127.0.0.1", client.port), timeout=SECONDS) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        while not select.select([connection], [], [], 0)[0] and sent < 2**30:
            connection.sendall(chunk)
            sent += 2**20
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert sent < 2**26
    assert client.get("/healthz").status == 200


def test_a_client_that_leaves_early_is_no_error(here, caplog):
    with socket.create_connection(("127.0.0.1", here.port), timeout=SECONDS) as connection:
        connection.sendall(POST + b"Content-Length: 99\r\n\r\nx")
        time.sleep(0.2)
    assert here.post(THREE).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_body_that_does_not_come_is_not_waited_for(here, monkeypatch):
    monkeypatch.setattr(answers, "SECONDS", 0.3)
    connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=SECONDS)
    connection.putrequest("POST", PREDICT)
    connection.putheader("Content-Length", "99")
    connection.endheaders(b"x")
    response = connection.getresponse()
    assert response.status == 408
    assert "not arrived after 0.3 seconds" in json.loads(response.read())["detail"]
    connection.close()


def test_a_picture_that_takes_long_is_given_up(here, monkeypatch):
    """And its thread soon is free again."""
    monkeypatch.setattr(answers, "SECONDS", 0.3)
    long = many_frames(500_000)
    assert len(long) < answers.MAX_BODY
    start = time.monotonic()
    for _ in range(2 * application.cores()):
        response = here.post(long)
        assert response.status == 422
        assert "longer than 0.3 seconds" in response.json["detail"]
    monkeypatch.undo()
    assert here.post(THREE).status == 200
    assert time.monotonic() - start < SECONDS / 2


def test_a_few_frames_are_read(here):
    assert "first of 102 frames" in here.post(many_frames(100)).json["reason"]


def test_a_reader_that_hangs_is_not_waited_for(monkeypatch):
    """Whatever its thread does, the client has an answer in time, and others are answered."""
    go_on = threading.Event()
    answer = answers.answer

    def hang_on_short_bodies(classifier, body, **options):
        if len(body) < 100:
            go_on.wait(SECONDS)
        return answer(classifier, body, **options)

    monkeypatch.setattr(answers, "answer", hang_on_short_bodies)
    monkeypatch.setattr(application, "cores", lambda: 2)
    monkeypatch.setattr(answers, "SECONDS", 1)
    monkeypatch.setattr(answers, "WAIT", 0.1)
    try:
        with serving(create_app(Classifier.load())) as client:
            response = client.post(b"x")
            assert response.status == 422
            assert "longer than 1 seconds" in response.json["detail"]
            assert client.post(THREE).json["label"] == 3
            go_on.set()
    finally:
        go_on.set()


def test_reading_does_not_keep_others_waiting(monkeypatch):
    """Pictures are read in threads; a request that needs none is answered meanwhile."""
    go_on, begun = threading.Event(), threading.Event()

    def hang(*_, **__):
        begun.set()
        go_on.wait(SECONDS)
        return b"{}"

    monkeypatch.setattr(answers, "answer", hang)
    monkeypatch.setattr(application, "cores", lambda: 1)
    monkeypatch.setattr(answers, "MAX_UNDER_WAY", 2)
    with serving(create_app(Classifier.load())) as client, ThreadPoolExecutor(2) as threads:
        try:
            waiting = [threads.submit(client.post, THREE) for _ in range(2)]
            assert begun.wait(SECONDS)
            assert client.get("/healthz").status == 200
            deadline = time.monotonic() + SECONDS
            while (response := client.post(THREE)).status != 429:
                assert time.monotonic() < deadline
            assert response.headers["retry-after"] == "1"
            assert "try again" in response.json["detail"]
        finally:
            go_on.set()
        assert [future.result(SECONDS).status for future in waiting] == [200, 200]
        assert client.post(THREE).status == 200


@contextmanager
def hanging(monkeypatch, **settings):
    """A server whose only reader hangs until the event is set, and that event."""
    go_on = threading.Event()

    def hang(*_, **__):
        go_on.wait(SECONDS)
        return b"{}"

    monkeypatch.setattr(answers, "answer", hang)
    monkeypatch.setattr(application, "cores", lambda: 1)
    for name, value in settings.items():
        monkeypatch.setattr(answers, name, value, raising=False)
    app = create_app(Classifier.load())
    with serving(app) as client, ThreadPoolExecutor(2) as threads:
        client.get("/healthz")  # now the application has started
        try:
            yield app, client, threads, go_on
        finally:
            go_on.set()


def until(condition, seconds=3):
    """Wait for a condition, and return whether it comes true."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true


def test_a_picture_that_only_waited_is_asked_to_come_again(monkeypatch):
    """A 422 would say that the picture itself takes long to read."""
    with hanging(monkeypatch, WAIT=0.3, SECONDS=2) as (app, client, threads, go_on):
        first = threads.submit(client.post, THREE)
        assert until(lambda: app.state.under_way == 1)
        response = client.post(THREE)
        assert response.status == 503
        assert response.headers["retry-after"] == "1"
        assert response.json["detail"] == "all readers have been busy for 0.3 seconds; try again"
        assert client.get("/healthz").status == 200
        go_on.set()
        assert first.result(SECONDS).status == 200
        assert client.post(THREE).status == 200


def test_the_time_to_read_a_picture_begins_when_a_reader_takes_it(monkeypatch):
    with hanging(monkeypatch, WAIT=SECONDS, SECONDS=1) as (_, client, threads, _):
        monkeypatch.setattr(answers, "answer", lambda *_, **__: time.sleep(0.7) or b"{}")
        both = [threads.submit(client.post, THREE) for _ in range(2)]
        assert [future.result(SECONDS).status for future in both] == [200, 200]


def test_a_client_that_leaves_gives_up_its_place(monkeypatch):
    with hanging(monkeypatch, WAIT=SECONDS) as (app, client, threads, _):
        threads.submit(client.post, THREE)
        assert until(lambda: app.state.under_way == 1)
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(POST + b"Content-Length: 3\r\n\r\nabc")
            assert until(lambda: app.state.under_way == 2)
        assert until(lambda: app.state.under_way == 1)


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/model", "/healthz", "/openapi.json"])
def test_a_page_whose_name_points_here_reads_nothing(client, path):
    """DNS rebinding: the browser sends the name of the stranger's page."""
    answer = client.get(path, Host=f"rebound.example:{client.port}")
    assert answer.status == 421
    assert answer.json == {"detail": application.OTHER_HOST}
    assert answer.headers["content-security-policy"]
    assert client.get(path, Host=f"localhost:{client.port}").status == 200


def test_pictures_are_refused_before_they_are_decoded(here, monkeypatch):
    def decode(*_):
        raise AssertionError("it is being decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert here.post(flat_png(5001)).status == 413
    assert here.post(many_scans(100)).status == 413
    assert here.post(THREE).status == 422


def test_many_at_once_get_each_their_own_answer(client):
    """And the same as alone, digit for digit."""
    bodies = [path.read_bytes() for path in SAMPLES]
    alone = [client.post(body) for body in bodies]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(client.post, 3 * bodies))
    assert [(r.status, r.content) for r in together] == 3 * [(r.status, r.content) for r in alone]


def test_every_answer_has_the_headers(here, monkeypatch):
    """Those of errors, and even of a bug."""
    responses = {
        200: here.post(THREE),
        404: here.get("/nowhere"),
        405: here.get(PREDICT),
        413: here.post(flat_png(5001)),
        415: here.post(b"text"),
        422: here.post(THREE, f"{PREDICT}?rival=10"),
    }
    files = [here.get(path) for path in ("/", "/index.html", "/openapi.json")]

    def fail(*_, **__):
        raise RuntimeError("a secret")

    monkeypatch.setattr(answers, "answer", fail)
    responses[500] = here.post(THREE)
    assert b"secret" not in responses[500].content
    assert responses[500].json["detail"]
    assert [answer.status for answer in responses.values()] == list(responses)
    for answer in (*responses.values(), *files):
        for name, value in HEADERS.items():
            assert answer.headers.get_all(name) == [value]
        assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/..%2fapp.py",
        "/%2e%2e/app.py",
        "/static/index.html",
        "//../../etc/passwd",
        "//etc/passwd",
        "/app.py",
    ],
)
def test_no_path_is_taken_from_a_request(client, path):
    assert client.get(path).status == 404


def test_no_file_is_opened_that_a_request_names(here):
    """The bytes are a picture or nothing: no file is looked up, and no program is started."""
    named, seen, watching = str(SAMPLES[0]), [], True
    programs = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}

    def look(event, arguments):  # such a hook cannot be taken away again
        if watching and (event in programs or (event == "open" and arguments[0] == named)):
            seen.append((event, arguments))

    sys.addaudithook(look)
    here.post(named.encode())
    here.post_json(named)
    here.post(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert not seen
    open(named).close()
    assert seen, "the hook is blind"
    watching = False


def test_pages_elsewhere_may_ask_only_if_they_are_allowed():
    preflight = {"Access-Control-Request-Method": "POST", "Origin": "https://page.example"}
    preflight["Access-Control-Request-Headers"] = "content-type"
    with serving(create_app(Classifier.load(), allow_origins=["https://page.example"])) as client:
        asked = client.ask("OPTIONS", PREDICT, headers=preflight)
        assert asked.status == 200
        assert asked.headers["access-control-allow-origin"] == "https://page.example"
        for body, status in ((THREE, 200), (b"text", 415)):
            answer = client.ask(
                "POST", PREDICT, body=body, headers={"Origin": "https://page.example"}
            )
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == "https://page.example"
        preflight["Origin"] = "https://other.example"
        assert client.ask("OPTIONS", PREDICT, headers=preflight).status == 400
        answer = client.ask(
            "POST", PREDICT, body=THREE, headers={"Origin": "https://other.example"}
        )
        assert "access-control-allow-origin" not in answer.headers


def test_by_default_no_page_elsewhere_may_ask(client):
    answer = client.ask("POST", PREDICT, body=THREE, headers={"Origin": "https://page.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/", "ftp://x", ""])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(NnpipeError, match="is not an origin such as"):
        create_app(allow_origins=[origin])


def test_settings_of_uvicorn_come_from_the_environment(weights_file):
    settings = {
        "NNPIPE_DEMO_WEIGHTS": str(weights_file),
        "NNPIPE_DEMO_ORIGINS": "https://a.example https://b.example",
        "NNPIPE_DEMO_HOSTS": "digits.example Other.Example",
    }
    with process("uvicorn", "nnpipe.demo.app:app", "--port", "0", **settings) as (_, client):
        assert client.get("/api/model").json["recipe"] == "sgd"
        for origin in ("https://a.example", "https://b.example"):
            answer = client.get("/healthz", Origin=origin)
            assert answer.headers["access-control-allow-origin"] == origin
        names = ("digits.example", "other.example:8000", "127.0.0.1", "third.example")
        statuses = [client.get("/healthz", Host=name).status for name in names]
        assert statuses == [200, 200, 200, 421]


def test_the_command_says_where_and_ends_with_ctrl_c(weights_file):
    command = ["nnpipe.cli", "demo", "--port", "0", "--no-open", "--weights", str(weights_file)]
    with process(*command, "--allow-host", "Digits.example") as (running, client):
        assert client.get("/").status == 200
        assert client.get("/api/model").json["recipe"] == "sgd"
        assert "server" not in client.get("/healthz").headers
        names = ("digits.example", "127.0.0.1", "other.example")
        assert [client.get("/", Host=name).status for name in names] == [200, 200, 421]
        said = running.said()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(SECONDS) == 0
        assert running.said() == said
        assert said.count("\n") == 1


def demo(*options):
    command = [sys.executable, "-m", "nnpipe.cli", "demo", "--no-open", *options]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS)


def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = demo("--port", port)
    assert done.returncode == 1
    hint = "choose another with --port; 0 takes a free one"
    assert done.stderr == f"nnpipe: port {port} of 127.0.0.1 is in use; {hint}\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen on port 8000 of no.such.host.invalid"),
        (["--host", ""], "cannot listen on port 8000"),
        (["--weights", "nowhere.npz"], "there is no such weights file"),
        (["--allow-origin", "me"], "me is not an origin"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(options, words):
    done = demo(*options)
    assert done.returncode == 1
    assert done.stderr.startswith("nnpipe: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "name", "open_to_all"),
    [("127.0.0.1", "127.0.0.1", False), ("localhost", "127.0.0.1|\\[::1\\]", False),
     ("::1", "\\[::1\\]", False), ("0.0.0.0", "localhost", True)],  # noqa: S104
)  # fmt: skip
def test_it_says_who_can_reach_it(monkeypatch, caplog, host, name, open_to_all):
    """It warns exactly where others than this machine can; and opens the page if there is a
    screen."""
    opened, served = threading.Event(), []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.append(sockets))
    monkeypatch.setattr("webbrowser.open", lambda url: served.append(url) or opened.set())
    monkeypatch.setenv("DISPLAY", ":0")
    caplog.set_level("INFO", "nnpipe")
    if ":" in host and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    server.serve(Classifier.load(), host=host, port=0, open_page=True)
    assert opened.wait(SECONDS)
    assert re.search(rf"the drawing page is at http://({name}):\d+/", caplog.text)
    assert ("anyone on the network can reach it" in caplog.text) == open_to_all
    assert any(isinstance(item, str) and item in caplog.text for item in served)


def _has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_without_a_screen_no_browser_takes_the_terminal(monkeypatch):
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("a browser is opened"))
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    server.serve(Classifier.load(), port=0, open_page=True)
    assert not [thread for thread in threading.enumerate() if "open" in thread.name]


def test_a_missing_extra_is_one_sentence(tmp_path):
    for name in ("fastapi", "uvicorn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
    command = [sys.executable, "-m", "nnpipe.cli", "demo"]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(
        r"nnpipe: the drawing page needs \w+, which is not installed: "
        r"pip install '\.\[demo\]' in nnpipe's folder\n",
        done.stderr,
    )
