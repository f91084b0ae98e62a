"""Scoring from and into S3, as moto speaks it behind a proxy that misbehaves on demand; archives.

What nnpipe starts finds the server by its environment, as it would find Amazon's.
"""

import csv
import hashlib
import http.client
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import boto3
import pandas as pd
import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer

from nnpipe.errors import OutputError, ScoringError
from nnpipe.scoring import decode_path, planning, remote
from nnpipe.scoring.entries import Entry
from nnpipe.scoring.remote import Remote
from nnpipe.scoring.rows import COLUMNS
from nnpipe.scoring.shards import score_shard

from .make_samples import encoded, picture
from .scoring import open_plan, score

pytestmark = pytest.mark.slow

BUCKET = "pictures"
SOURCE, OUT = f"s3://{BUCKET}/in", f"s3://{BUCKET}/out/scores.csv"

LINE_BREAK = "⏎"
"""What stands in moto for a line break in a key; its web framework has no route for the real one.
The proxy shows it as one."""

BUSY = (503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>")
BROKEN = (500, b"<Error><Code>InternalError</Code><Message>Something\nbroke.</Message></Error>")
DENIED = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
CUT = (200, None)
"""Answers in place of moto's; the last one is moto's, of which the second half is missing."""

Rule = Callable[[str, str], tuple[int, bytes | None] | None]


class Store:
    """The server as tests see it: its objects, what was asked of it, and how it behaves."""

    def __init__(self, moto: int) -> None:
        self.moto = moto
        self.asked: list[tuple[str, str]] = []  # methods, and buckets with keys
        self.sent = Counter[str]()  # bytes of bodies, per bucket with key
        self.rule: Rule = lambda method, path: None
        session = boto3.session.Session("key", "secret", region_name="us-east-1")
        self.client = session.client("s3", endpoint_url=f"http://127.0.0.1:{moto}")

    def reset(self) -> None:
        self.rule = lambda method, path: None
        self.forward("POST", "/moto-api/reset")
        self.client.create_bucket(Bucket=BUCKET)
        self.asked.clear()
        self.sent.clear()

    def put(self, objects: dict[str, bytes]) -> None:
        for key, content in objects.items():
            self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str) -> set[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return {about["Key"] for about in found.get("Contents", [])}

    def fetched(self, prefix: str) -> set[str]:
        """What was asked for below a prefix, without it."""
        start = f"{BUCKET}/{prefix}"
        return {path.removeprefix(start) for _, path in self.asked if path.startswith(start)}

    def forward(self, method: str, path: str, headers=(), body: bytes = b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.moto, timeout=30)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in ("host", "connection"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0]).strip("/")
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append((request.command, path))
        instead = self.rule(request.command, path)
        if instead is None or instead is CUT:
            target = request.path.replace("%0A", "%E2%8F%8E")
            status, headers, content = self.forward(
                request.command, target, request.headers.items(), body
            )
            content = content.replace(b"%E2%8F%8E", b"%0A")
        else:
            status, content = instead
            headers = []
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length"):
                request.send_header(name, value)
        length = dict(headers).get("Content-Length") if request.command == "HEAD" else len(content)
        request.send_header("Content-Length", str(length or 0))
        request.end_headers()
        if request.command != "HEAD":
            content = content[: len(content) // 2] if instead is CUT else content
            self.sent[path] += len(content)
            request.wfile.write(content)
        request.close_connection = instead is CUT


class Proxy(BaseHTTPRequestHandler):
    store: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # A client that is killed closes its connections, as it should.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.store.answer(self)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    """The server, and an environment in which it is found."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    Proxy.store = Store(moto.get_host_and_port()[1])
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # s3fs tries again, too, and does not wait so long
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("werkzeug"), "disabled", True)
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield Proxy.store
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.shutdown()
    proxy.server_close()
    thread.join(5)
    moto.stop()


@pytest.fixture
def store(server) -> Store:
    server.reset()
    return server


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Three digits, a blank picture, and three files that are no pictures, in three folders."""
    return {
        "b.png": encoded(picture(1), "PNG"),
        "a.jpg": encoded(picture(2), "JPEG"),
        "sub/deep/c.PNG": encoded(picture(3), "PNG"),
        "sub/blank.png": encoded(picture(0, pen=0.1, height=1), "PNG"),
        "sub/cut.png": encoded(picture(4), "PNG")[:700],
        "notes.txt": b"three pictures",
        "empty": b"",
    }


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory) -> Path:
    """The same as files."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory) -> bytes:
    """What is written for these files when all is on this machine."""
    out = tmp_path_factory.mktemp("expected") / "scores.csv"
    score(str(folder), str(out))
    return out.read_bytes()


@pytest.fixture
def bucket(store, pictures) -> Store:
    """The server with these files."""
    store.put({f"in/{name}": content for name, content in pictures.items()})
    return store


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """An empty memory."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def rows_of(content: bytes) -> dict[bytes, dict[str, str]]:
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return {decode_path(row["path"]): row for row in rows}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def command(source: str, out: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "nnpipe.cli", "score", source, "--out", out, *options]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("places", ["S3 to S3", "S3 to a file", "a folder to S3"])
def test_a_bucket_gives_and_takes_the_same_bytes_as_a_folder(
    bucket, folder, expected, tmp_path, places
):
    local = tmp_path / "scores.csv"
    source = str(folder) if places == "a folder to S3" else SOURCE
    summary = score(source, str(local) if places == "S3 to a file" else OUT)
    assert summary.files == 7
    if places == "S3 to a file":
        assert local.read_bytes() == expected
        assert {path.name for path in tmp_path.iterdir()} == {
            "scores.csv",
            "scores.csv.summary.json",
        }
    else:
        assert bucket.get("out/scores.csv") == expected
        assert bucket.keys("out/") == {"out/scores.csv", "out/scores.csv.summary.json"}
        kept = json.loads(bucket.get("out/scores.csv.summary.json"))
        assert kept["statuses"] == summary.statuses == {"ok": 3, "rejected": 1, "error": 3}


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.parquet", "parts"])
def test_pandas_reads_the_same_table_from_a_bucket_in_every_form(
    bucket, memory, pictures, expected, name
):
    memory.pipe({f"/in/{name}": content for name, content in pictures.items()})
    score("memory://in", f"s3://{BUCKET}/out/{name}/")
    files = s3fs.S3FileSystem()
    if name == "scores.jsonl":
        with files.open(f"{BUCKET}/out/{name}") as stream:
            found = pd.read_json(stream, lines=True)
    else:
        found = pd.read_parquet(f"{BUCKET}/out/{name}", filesystem=files)
    texts = dict.fromkeys(("path", "field", "status", "reason", "sha256"), "str")
    types = texts | dict.fromkeys(("page", "label", "width", "height"), "Int64")
    from_csv = pd.read_csv(io.BytesIO(expected)).astype({"field": "object"})
    from_csv = from_csv.fillna({"reason": "", "field": ""}).astype(types)
    assert list(found.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(found.astype(types), from_csv)
    parts = {"out/parts/part-00000.parquet", "out/parts/_SUCCESS"}
    written = parts if name == "parts" else {f"out/{name}"}
    assert bucket.keys("out/") == written | {f"out/{name}.summary.json"}


def test_a_killed_command_goes_on_where_it_was(store, memory, tmp_path, monkeypatch):
    """No shard that is done is done again, and the bytes are those of a run that nobody ends."""
    pictures = {f"{n:02}.png": encoded(picture(n % 10, (90 + n, 120)), "PNG") for n in range(8)}
    store.put({f"in/{name}": content for name, content in pictures.items()})
    memory.pipe({f"/in/{name}": content for name, content in pictures.items()})
    score("memory://in", "memory://out/scores.csv")
    monkeypatch.setattr(planning, "SHARD_FILES", 2)
    with open_plan(SOURCE, OUT) as begun:
        assert len(begun.shards) == 4

    def done() -> set[int]:
        state = store.keys(f"out/scores.csv.nnpipe/{begun.id}/")
        return {int(found[1]) for key in state if (found := re.search(r"(\d{5})\.json$", key))}

    released = threading.Event()

    def hold(method: str, path: str) -> None:
        if path.endswith("03.png"):
            released.wait(30)

    store.rule = hold
    try:
        process = subprocess.Popen(
            command(SOURCE, OUT, "--workers", "2"), stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        until(lambda: done() == {0, 2, 3})
        workers = children_of(process.pid)
        assert workers
        process.kill()
        until(lambda: not any(map(is_running, workers)))
    finally:
        process.kill()
        process.wait(10)
        released.set()
    store.rule = lambda method, path: None
    store.asked.clear()

    again = subprocess.run(
        command(SOURCE, OUT), capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert "resuming: 3 of 4 shards are done" in again.stderr
    assert store.fetched("in/") == {"02.png", "03.png"}
    assert store.get("out/scores.csv") == memory.cat_file("/out/scores.csv")
    assert store.keys("out/") == {"out/scores.csv", "out/scores.csv.summary.json"}


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_an_object_that_vanishes_after_the_listing_is_an_error_row(bucket, memory, expected):
    def vanish(method: str, path: str) -> None:
        if path.endswith("b.png"):
            bucket.delete("in/b.png")

    bucket.rule = vanish
    score(SOURCE, "memory://out/scores.csv")
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    gone = rows.pop(b"b.png")
    assert (gone["status"], gone["reason"]) == ("error", "there is no such file")
    assert rows == {path: row for path, row in rows_of(expected).items() if path != b"b.png"}


def test_a_busy_server_is_asked_again(bucket, expected):
    """It refuses every third object, and every third to be written, and cuts every fifth short."""
    counts = Counter[str]()

    def busy(method: str, path: str) -> tuple[int, bytes | None] | None:
        if method not in ("GET", "PUT") or path == BUCKET:
            return None
        counts[method] += 1
        if counts[method] % 3 == 0:
            return BUSY
        return CUT if method == "GET" and counts[method] % 5 == 0 else None

    bucket.rule = busy
    score(SOURCE, OUT)
    assert bucket.get("out/scores.csv") == expected
    assert counts["GET"] > 12
    assert counts["PUT"] > 6


def test_what_a_server_does_not_give_is_an_error_row_before_long(
    bucket, memory, expected, monkeypatch
):
    answers = {"in/b.png": BUSY, "in/a.jpg": BROKEN, "in/sub/deep/c.PNG": DENIED}
    bucket.rule = lambda method, path: (
        answers.get(path.removeprefix(f"{BUCKET}/")) if method == "GET" else None
    )
    monkeypatch.setattr(remote, "PATIENCE", 1)
    start = time.monotonic()
    score(SOURCE, "memory://out/scores.csv")
    assert time.monotonic() - start < 30
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    told = {path: rows.pop(path)["reason"] for path in (b"b.png", b"a.jpg", b"sub/deep/c.PNG")}
    assert "Reduce your request rate." in told[b"b.png"]
    assert "Something broke." in told[b"a.jpg"]
    assert told[b"sub/deep/c.PNG"] == "the file cannot be read: Access Denied"
    assert rows == {path: row for path, row in rows_of(expected).items() if path not in told}
    asked = Counter(path for method, path in bucket.asked if method == "GET")
    assert asked[f"{BUCKET}/in/sub/deep/c.PNG"] == 1
    assert 1 < asked[f"{BUCKET}/in/a.jpg"] < asked[f"{BUCKET}/in/b.png"] < 50


ODD = [
    *(
        "a",
        "a/b",
        "a b.png",
        "ä中.png",
        "😀",
        "é",
        "e\u0301",
        "*",
        "[x]",
        "x",
        "?",
        "#",
        "%41",
        "A",
    ),
    *(
        "-dash",
        "=equals",
        "+plus",
        "plus",
        "a%2Fb",
        "tab\there",
        "back\\slash",
        "back\\\\slash",
        "~",
    ),
    *("in/../z", "z", "./dot", "dot", "d//e", "d/e", "/lead", "lead", "..", "trail ", "trail"),
    *("&<x>'", '"q"', "a::b", "s3://x/y", "{a,b}", "x;y", "line\nbreak", "content/", "q"),
]


@pytest.mark.parametrize("source", [f"{SOURCE}/", f"{SOURCE}/**"])
def test_every_key_has_the_answer_for_its_own_object(store, memory, source):
    pictures = [encoded(picture(label), "PNG") for label in range(10)]
    objects = {key: pictures[n % 10] + str(n).encode() for n, key in enumerate(ODD)}
    store.put({f"in/{key}".replace("\n", LINE_BREAK): objects[key] for key in objects})
    store.put({"in/zero": b"", "in/no picture": b"text", "in/q?versionId=3": pictures[0]})
    store.put(dict.fromkeys(("in/", "in/folder/", "in/d/"), b""))  # as S3's own console does
    score(source, "memory://out/scores.csv")
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    assert rows.pop(b"zero")["reason"] == "the file is empty"
    assert rows.pop(b"no picture")["sha256"] == digest(b"text")
    assert "would be taken for another's" in rows.pop(b"q?versionId=3")["reason"]
    assert set(rows) == {os.fsencode(key) for key in ODD}
    for n, key in enumerate(ODD):
        row = rows[os.fsencode(key)]
        assert (row["sha256"], row["label"]) == (digest(objects[key]), str(n % 10)), key


def test_an_output_within_the_source_is_not_scored_the_next_time(bucket):
    for key in ("", ".nnpipe/nnpipe-state.txt", ".nnpipe/plan.json", ".nnpipe/ab/00000.csv"):
        bucket.put({f"in/sub/scores.csv{key}": b""})
    bucket.put({"in/sub/scores.csv2": b"a file of its own"})
    for source in (SOURCE, f"{SOURCE}/**", f"s3://{BUCKET}"):
        with open_plan(source, f"{SOURCE}/sub/scores.csv") as begun:
            assert begun.files == 8


def test_a_shard_fetches_its_own_part_of_the_manifest(bucket, monkeypatch):
    monkeypatch.setattr(planning, "SHARD_FILES", 2)
    with open_plan(SOURCE, OUT) as begun:
        lines = begun.lines(1)
    assert [line.entry.path for line in lines] == ["empty", "notes.txt"]
    manifest = f"{BUCKET}/out/scores.csv.nnpipe/{begun.id}/manifest.jsonl"
    assert bucket.sent[manifest] == begun.starts[2] - begun.starts[1]


def test_a_large_object_is_an_error_row_and_is_not_fetched(bucket, monkeypatch):
    """Also when a list names it, and its size is not known beforehand."""
    monkeypatch.setattr(remote, "MAX_BYTES", 500)
    entries = [Entry("b.png", size=501), Entry("a.jpg"), Entry("notes.txt")]
    large, listed, small = Remote(SOURCE, f"{BUCKET}/in/").read(entries)
    assert str(large) == str(listed) == "the file has more than the 256 MiB that are read"
    assert small == b"three pictures"
    assert {path for method, path in bucket.asked if method == "GET"} == {f"{BUCKET}/in/notes.txt"}


@pytest.mark.parametrize(
    ("source", "out", "error", "sentence"),
    [
        ("s3://no-bucket/in", OUT, ScoringError, r"^s3://no-bucket/in: cannot be listed \("),
        (
            "s3://no-bucket/*.png",
            OUT,
            ScoringError,
            r"listed \(The specified bucket does",
        ),
        (f"s3://{BUCKET}/none", OUT, ScoringError, rf"^s3://{BUCKET}/none: holds no files"),
        (f"{SOURCE}/*.gif", OUT, ScoringError, r"/in/\*\.gif: holds no files"),
        (f"{SOURCE}/b.png", OUT, ScoringError, r"/in/b\.png: is a single file; name its folder"),
        (
            SOURCE,
            "s3://no-bucket/a.csv",
            OutputError,
            r"^s3://no-bucket/a\.csv\S+: could not be wr",
        ),
        (
            SOURCE,
            "s3://no-bucket/parts",
            OutputError,
            r"^s3://no-bucket/parts\S+: could not be wri",
        ),
        (
            SOURCE,
            f"s3://{BUCKET}/in/*.csv",
            ScoringError,
            r"/in/\*\.csv: \*, \? and \[ are wildcards",
        ),
        (SOURCE, f"s3://{BUCKET}", ScoringError, rf"^s3://{BUCKET}: is no name for a file"),
        ("nowhere://in", OUT, ScoringError, r"^nowhere://in: cannot be opened \("),
        (
            SOURCE,
            "nowhere://out/a.csv",
            ScoringError,
            r"^nowhere://out/a\.csv: cannot be opened \(",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(bucket, source, out, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        score(source, out)
    assert "\n" not in str(raised.value)
    assert bucket.keys("out/") == set()


def test_what_cannot_be_reached_is_one_sentence_on_stderr(bucket, folder, tmp_path):
    bucket.rule = lambda method, path: DENIED if path.startswith("closed") else None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        gone = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        without = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_ACC", "AWS_SEC"))}
        cases = [
            (
                os.environ,
                "s3://closed/in",
                "a.csv",
                "s3://closed/in: cannot be listed (Access Denied)",
            ),
            (os.environ, str(folder), "s3://closed/a.csv", "s3://closed/a.csv: cannot be accessed"),
            (
                without,
                SOURCE,
                "b.csv",
                f"{SOURCE}: cannot be listed (Unable to locate credentials)",
            ),
            (
                gone,
                str(folder),
                OUT,
                f"{OUT}: cannot be accessed (Could not connect to the endpoint",
            ),
        ]
        processes = [
            subprocess.Popen(
                command(source, out), env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True
            )
            for env, source, out, _ in cases
        ]
        try:
            told = [process.communicate(timeout=60)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
    for (*_, sentence), process, stderr in zip(cases, processes, told, strict=True):
        assert stderr.startswith(f"nnpipe: {sentence}")
        assert stderr.count("\n") == 1
        assert process.returncode == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "refused", "sentence"),
    [
        (SOURCE, "manifest.jsonl", r"^s3\S+/manifest\.jsonl: cannot be accessed \(.*Something"),
        (
            "memory://in",
            "00000.json",
            rf"^{OUT}\S+/00000\.json: cannot be accessed \(.*Something broke",
        ),
        ("memory://in", "scores.csv", rf"^{OUT}: could not be written \(.*Something broke"),
    ],
)
def test_a_server_that_fails_in_the_middle_is_one_sentence_and_loses_nothing(
    bucket, memory, pictures, expected, source, refused, sentence
):
    memory.pipe({f"/in/{name}": content for name, content in pictures.items()})
    method = "PUT" if refused == "scores.csv" else "GET"
    bucket.rule = lambda asked, path: (
        BROKEN if asked == method and path.endswith(f"/{refused}") else None
    )
    with pytest.raises((ScoringError, OutputError), match=sentence):
        score(source, OUT)
    bucket.rule = lambda asked, path: None
    bucket.asked.clear()
    score(source, OUT)
    assert bucket.get("out/scores.csv") == expected
    assert not any(key.startswith("in/") for key in bucket.fetched("")) or source == SOURCE
    written = [path for method, path in bucket.asked if method == "PUT"]
    assert any(path.endswith("00000.csv") for path in written) == (refused == "manifest.jsonl")


def test_only_objects_that_have_changed_are_scored_again(bucket, pictures):
    assert score(SOURCE, OUT, incremental=True).scored == 7
    changed = pictures | {
        "b.png": encoded(picture(8), "PNG"),
        "notes.txt": pictures["notes.txt"],  # is written anew, and is what it was
        "new.png": encoded(picture(9), "PNG"),
    }
    del changed["a.jpg"]
    bucket.delete("in/a.jpg")
    bucket.put({f"in/{name}": content for name, content in changed.items()})
    bucket.asked.clear()
    summary = score(SOURCE, OUT, incremental=True)
    assert (summary.files, summary.scored) == (8, 2)
    assert "2 new, 5 kept, 1 gone" in summary.lines()[0]
    assert bucket.fetched("in/") == {"b.png", "new.png"}
    rows = rows_of(bucket.get("out/scores.csv"))
    assert rows.pop(b"a.jpg")["gone"] == "true"
    assert {name: row["sha256"] for name, row in rows.items() if name != b"empty"} == {
        name.encode(): digest(content) for name, content in changed.items() if content
    }
    assert (rows[b"b.png"]["label"], rows[b"new.png"]["label"]) == ("8", "9")


def test_an_empty_bucket_is_an_empty_inbox(bucket, pictures):
    """Its objects appear whole, so none of them waits."""
    source = f"s3://{BUCKET}/inbox"
    assert score(source, OUT, incremental=True, settle=60).files == 0
    bucket.put({f"inbox/{name}": content for name, content in pictures.items()})
    assert score(source, OUT, incremental=True, settle=60).scored == 7
    for name in pictures:
        bucket.delete(f"inbox/{name}")
    summary = score(source, OUT, incremental=True, settle=60)
    assert (summary.scored, summary.gone) == (0, 7)
    assert score(source, OUT, incremental=True, prune=True).files == 0
    with pytest.raises(ScoringError, match="holds no files to score"):
        score(source, OUT)


def test_memory_is_scored_by_the_process_that_has_it(memory, pictures, expected):
    memory.pipe({f"/in/{name}": content for name, content in pictures.items()})
    for _ in range(2):
        assert score("memory://in", "memory://in/sub/scores.csv").files == 7
    assert memory.cat_file("/in/sub/scores.csv") == expected
    assert score("memory://in/*/*/*", "memory://out/scores.csv").files == 1
    assert not memory.glob("/**/*.nnpipe")


def test_a_list_of_urls_is_scored_and_each_row_bears_its_url(
    bucket, memory, expected, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "TRIES", 1)
    names = ["b.png", "sub/cut.png", "empty", "none.png"]
    others = ["s3://no-bucket/a", "https://nowhere/b.png", "sub/b.png", "s3://", "s3://B/x"]
    (tmp_path / "list.txt").write_text("\n".join([f"{SOURCE}/{name}" for name in names] + others))
    score(str(tmp_path / "list.txt"), "memory://out/scores.csv")
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    assert set(rows) == {f"{SOURCE}/{name}".encode() for name in names} | {
        other.encode() for other in others
    }
    for name in names[:3]:
        row = rows.pop(f"{SOURCE}/{name}".encode())
        assert row | {"path": name} == rows_of(expected)[name.encode()]
    assert rows[f"{SOURCE}/none.png".encode()]["reason"] == "there is no such file"
    assert all(row["status"] == "error" and row["reason"] for row in rows.values())
    assert not any("\n" in row["reason"] for row in rows.values())


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    """Write a .zip or .tar; members whose names end with a slash are folders."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w") as archive:
            for name, content in members.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                about.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                archive.addfile(about, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["pictures.zip", "pictures.tar", "odd [1]*?#%41 name.ZIP"])
def test_an_archive_gives_the_same_bytes_as_its_folder(pictures, expected, tmp_path, name):
    archive = write_archive(tmp_path / name, pictures | {"sub/": b""})
    score(str(archive), str(tmp_path / "scores.csv"))
    assert (tmp_path / "scores.csv").read_bytes() == expected


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_in_a_bucket_is_scored(store, memory, pictures, expected, tmp_path, kind):
    archive = write_archive(tmp_path / f"x.{kind}", pictures)
    store.put({f"x.{kind}": archive.read_bytes()})
    score(f"{kind}://::s3://{BUCKET}/x.{kind}", "memory://out/scores.csv")
    assert memory.cat_file("/out/scores.csv") == expected


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_every_member_has_the_answer_for_itself(memory, tmp_path, kind):
    names = ["ä中.png", "sub/é/😀.png", "e\u0301", "[x]", "x", "*", "a b", "./dot", "dot", "../up"]
    names += ["line\nbreak", "back\\slash", "-dash", "=equals", "%41", "A", "a::b", "file:x"]
    names += ["caf\udce9"] if kind == "tar" else ["d//e", "d/e"]
    pictures = [encoded(picture(label), "PNG") for label in range(10)]
    members = {name: pictures[n % 10] + str(n).encode() for n, name in enumerate(names)}
    aliases = {"/x": b"not that", f"{kind}://x": b"nor that"} if kind == "zip" else {"/x": b"no"}
    archive = write_archive(tmp_path / f"x.{kind}", members | aliases | {"folder/": b""})
    score(str(archive), "memory://out/scores.csv")
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    for alias in aliases:
        assert "would be taken for another's" in rows.pop(alias.encode())["reason"]
    assert set(rows) == {os.fsencode(name) for name in names}
    for n, name in enumerate(names):
        row = rows[os.fsencode(name)]
        assert (row["sha256"], row["label"]) == (digest(members[name]), str(n % 10)), name


def test_a_damaged_and_an_encrypted_member_are_error_rows(memory, pictures, expected, tmp_path):
    archive = write_archive(tmp_path / "x.zip", pictures)
    content = bytearray(archive.read_bytes())
    content[content.index(pictures["b.png"]) + 40] ^= 1
    for mark, flags, name in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        header = content.index(b"a.jpg", content.index(mark)) - name
        assert content[header : header + 4] == mark
        content[header + flags] |= 1  # "encrypted"
    archive.write_bytes(content)
    score(str(archive), "memory://out/scores.csv")
    rows = rows_of(memory.cat_file("/out/scores.csv"))
    assert "Bad CRC-32" in rows.pop(b"b.png")["reason"]
    assert "is encrypted" in rows.pop(b"a.jpg")["reason"]
    assert rows.items() <= rows_of(expected).items()
    assert len(rows) == 5


def test_an_archive_that_is_none_or_is_cut_is_one_sentence(pictures, tmp_path):
    for kind in ("zip", "tar"):
        path = tmp_path / f"x.{kind}"
        whole = write_archive(path, pictures).read_bytes()
        damaged = {
            "empty": b"",
            "text": b"no archive" * 1000,
            "cut in a file": whole[: whole.index(pictures["sub/deep/c.PNG"]) + 9],
            "cut in a header": whole[: whole.index(b"sub/deep/c.PNG") + 50],
        }
        if kind == "tar":  # whose reader takes what is no header for the end
            damaged["one header"] = whole.replace(b"sub/deep/c.PNG", b"sub/deep/d.PNG")
        for content in damaged.values():
            path.write_bytes(content)
            with pytest.raises(ScoringError, match=rf"x\.{kind}: (cannot be opened|is damaged) \("):
                score(str(path), str(tmp_path / "scores.csv"))
        write_archive(path, {"folder/": b""})
        with pytest.raises(ScoringError, match=rf"x\.{kind}: holds no files"):
            score(str(path), str(tmp_path / "scores.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "x.tar"}


def test_a_server_that_refuses_everything_stops_the_run_which_goes_on_later(
    bucket, expected, tmp_path
):
    """As it does when the credentials have expired."""
    out = tmp_path / "scores.csv"
    with open_plan(SOURCE, str(out)) as begun:
        bucket.rule = lambda method, path: DENIED
        with pytest.raises(ScoringError, match=rf"^{SOURCE}: can no longer be reached.*Denied"):
            score_shard(begun, 0)
        bucket.rule = lambda method, path: None
        assert begun.undone() == [0]
    score(SOURCE, str(out))
    assert out.read_bytes() == expected


def test_many_threads_leave_a_worker_its_memory(store, monkeypatch):
    """glibc gives each its own 64 MB of addresses, on a machine with many cores; with few, not."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "256")
    store.rule = lambda method, path: time.sleep(0.2)  # so that all of them have work
    content = encoded(picture(1), "PNG")
    store.put({f"in/{n}.png": content for n in range(remote.AT_ONCE)})
    assert score(SOURCE, OUT).statuses == {"ok": remote.AT_ONCE}
