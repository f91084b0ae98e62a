"""Sources that go away while they are scored, that cannot be reached, or that hold litter."""

import errno
import io
import json
import os
import re
import shutil
import socket
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from nnpipe import ground_truth
from nnpipe.errors import LostError, ScoringError
from nnpipe.scoring import planning
from nnpipe.scoring.entries import LITTER, MOST_LOST, Entry, is_litter
from nnpipe.scoring.local import Local
from nnpipe.scoring.plan import MANIFEST
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.sources import open_source

from .make_samples import encoded, picture
from .scoring import open_plan
from .seen import champion
from .test_scoring import folder, read_csv, score_here, settled, small_shards

__all__ = ["folder", "settled", "small_shards"]

DIGIT = encoded(picture(5), "PNG")


@pytest.fixture
def many(tmp_path):
    """Twice as many files as may be lost in a row, in one folder."""
    root = tmp_path / "many"
    (root / "sub").mkdir(parents=True)
    for number in range(2 * MOST_LOST):
        (root / f"sub/{number:03}.png").write_bytes(DIGIT)
    (root / "zoo.png").write_bytes(DIGIT)
    return root


# --- a folder that goes away ----------------------------------------------------------------------


def take_away(root):
    root.rename(root.with_name("away"))


def unmount(root):
    """What stays of a share is the folder on which it was mounted."""
    take_away(root)
    root.mkdir()


@pytest.mark.parametrize("lose", [take_away, unmount])
def test_a_source_that_vanishes_stops_the_run_and_the_same_command_goes_on(
    folder, tmp_path, small_shards, lose
):
    """No file of it gets a row that says that there is no such file."""
    score_here(folder, tmp_path / "expected.csv")
    out = tmp_path / "out.csv"
    with open_plan(str(folder), str(out)) as begun:
        assert len(begun.undone()) == 4
        score_shard(begun, 0)
        lose(folder)
        sentence = f"{folder}: the files that were there are gone \\("
        for shard in begun.undone():
            with pytest.raises(LostError, match=sentence) as caught:
                score_shard(begun, shard)
            assert caught.value.advice == "lost"
        assert begun.undone() == [1, 2, 3]
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("away").rename(folder)
    with open_plan(str(folder), str(out)) as again:
        assert (again.id, again.undone()) == (begun.id, [1, 2, 3])
    score_here(folder, out)
    assert out.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_many_files_in_a_row_that_vanish_stop_the_run(many, tmp_path):
    """The folder above them need not be gone: it may hold others that are still there."""
    with open_plan(str(many), str(tmp_path / "out.csv")) as begun:
        shutil.rmtree(many / "sub")
        with pytest.raises(ScoringError, match=r"20 files in a row are lost .*sub/019.png: there"):
            score_shard(begun, 0)
        assert 0 in begun.undone()


def test_single_files_that_vanish_have_error_rows(many, tmp_path):
    """All of them do, one after the other, as long as others between them are there."""
    with open_plan(str(many), str(tmp_path / "out.csv")) as begun:
        for number in range(2 * MOST_LOST):
            if number % MOST_LOST:
                (many / f"sub/{number:03}.png").unlink()
        for shard in begun.shards:
            score_shard(begun, shard)
        assert not begun.undone()


def test_files_that_never_were_have_error_rows_however_many(tmp_path):
    (tmp_path / "list").write_text("".join(f"none/{n}.png\n" for n in range(100)))
    summary = score_here(tmp_path / "list", tmp_path / "out.csv")
    assert summary.reasons == {"there is no such file": 100}


SEEN = [Entry(f"{n}.png", "stamp", 9) for n in range(2 * MOST_LOST)]


@pytest.mark.parametrize("code", ["EIO", "ESTALE", "ENOTCONN", "EHOSTDOWN", "ETIMEDOUT"])
def test_a_disk_or_a_share_that_fails_stops_the_run(tmp_path, monkeypatch, code):
    (tmp_path / "something").touch()

    def fail(path, flags):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), path)

    monkeypatch.setattr(os, "open", fail)
    contents = Local(str(tmp_path)).read(SEEN)
    for _ in range(MOST_LOST - 1):
        next(contents)
    with pytest.raises(ScoringError, match=f"{os.strerror(getattr(errno, code))}"):
        next(contents)


def test_files_that_may_not_be_read_are_no_reason_to_stop(tmp_path, monkeypatch):
    (tmp_path / "something").touch()

    def fail(path, flags):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", fail)
    assert len(list(Local(str(tmp_path)).read(SEEN))) == len(SEEN)


def test_a_folder_that_vanishes_while_it_is_listed_is_one_sentence(folder):
    with open_source(str(folder)) as source:
        listing = source.entries(lambda path, why: None)
        next(listing)
        shutil.rmtree(folder)
        with pytest.raises(ScoringError, match="the files that were there are gone"):
            list(listing)


# --- a server that goes away ----------------------------------------------------------------------


@pytest.fixture
def memory():
    """An empty memory that takes the place of a server."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_a_server_that_gives_nothing_any_more_stops_the_run(memory, monkeypatch, tmp_path):
    memory.pipe({f"/in/{n:03}.png": DIGIT for n in range(60)})

    def refuse(*_, **__):
        raise PermissionError("The provided token has expired")

    with open_plan("memory://in", str(tmp_path / "out.csv")) as begun:
        for name in ("cat_file", "info", "ls"):
            monkeypatch.setattr(MemoryFileSystem, name, refuse)
        with pytest.raises(ScoringError, match=r"memory://in: can no longer .*token has expired"):
            score_shard(begun, 0)
        assert 0 in begun.undone()


def test_objects_that_are_refused_one_by_one_have_error_rows(memory, monkeypatch, tmp_path):
    """Their folder still answers: they are in cold storage, say."""
    monkeypatch.setattr(MemoryFileSystem, "info", None)  # not even this need be allowed
    memory.pipe({f"/in/{n:03}.png": DIGIT for n in range(60)})

    def refuse(*_, **__):
        raise PermissionError("The operation is not valid for the object's storage class")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    summary = score_here("memory://in", tmp_path / "out.csv")
    assert summary.statuses == {"error": 60}


def test_an_archive_on_a_failing_disk_stops_the_run(monkeypatch, tmp_path):
    from fsspec.implementations.zip import ZipFileSystem

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", DIGIT)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with open_plan(str(tmp_path / "a.zip"), str(tmp_path / "out.csv")) as begun:
        monkeypatch.setattr(ZipFileSystem, "cat_file", fail)
        with pytest.raises(ScoringError, match="Input/output error"):
            score_shard(begun, 0)


def test_a_tar_reaches_nothing_outside_of_it_and_its_pipes_and_devices_have_no_row(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.png", "../up.png"):
            member = tarfile.TarInfo(name)
            member.size = len(DIGIT)
            archive.addfile(member, io.BytesIO(DIGIT))
        for name, kind in [("link", "SYM"), ("hard", "LNK"), ("pipe", "FIFO"), ("device", "CHR")]:
            member = tarfile.TarInfo(name)
            member.type = getattr(tarfile, f"{kind}TYPE")
            member.linkname = "/etc/passwd" if kind in ("SYM", "LNK") else ""
            archive.addfile(member)
    summary = score_here(tmp_path / "a.tar", tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert {path: row["label"] for path, row in rows.items()} == {
        "../up.png": "5",
        "a.png": "5",
        "hard": "",
        "link": "",
    }
    assert "not found" in rows["link"]["reason"]
    assert summary.skipped == {"neither file nor folder": 2}
    assert not (tmp_path.parent / "up.png").exists()


class Handler(SimpleHTTPRequestHandler):
    broken = False

    def do_GET(self):
        if self.broken and "sub" in self.path:
            self.close_connection = True  # without an answer
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(folder):
    """The folder on a web server."""
    handler = type("Handler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def paths(source):
    with open_source(source) as opened:
        return sorted(entry.path for entry in opened.entries(lambda path, why: None))


@pytest.mark.parametrize("path", ["", "/in", "/*.png", "/**/*.png"])
def test_an_endpoint_that_refuses_the_connection_cannot_be_reached(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}{path}"
        with pytest.raises(ScoringError, match=f"^{re.escape(url)}: cannot be reached \\(.*127"):
            paths(url)


def test_a_web_folder_is_listed_whole_or_not_at_all(web):
    """A sub-folder whose listing fails is not taken for an empty one."""
    url, handler = web
    assert "sub/deep/c.PNG" in paths(url)
    handler.broken = True
    with pytest.raises(ScoringError, match=f"^{url}: cannot be reached"):
        paths(url)
    handler.broken = False
    assert "sub/deep/c.PNG" in paths(url)


# --- litter ---------------------------------------------------------------------------------------

HIDDEN = [".DS_Store", "._b.png", "Thumbs.db", "sub/desktop.ini", "sub/.b.png", "sub/Desktop.ini"]
HIDDEN_FOLDERS = ["__MACOSX/._b.png", ".git/objects/b.png", "$RECYCLE.BIN/b.png"]


@pytest.fixture
def littered(tmp_path):
    """Two digits, among what file managers and archivers leave."""
    root = tmp_path / "littered"
    for name in ["b.png", "sub/c.png", *HIDDEN, *HIDDEN_FOLDERS]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(DIGIT if name in ("b.png", "sub/c.png") else b"litter")
    return root


def as_zip(root):
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, path.relative_to(root))
    return root.with_suffix(".zip")


def as_tar(root):
    """As ``tar -c .`` writes it, each name with ``./`` before it."""
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, ".")
        for path in root.rglob("*.png"):
            archive.add(path, f"./{path.relative_to(root)}")
    return root.with_suffix(".tar")


def in_memory(root):
    MemoryFileSystem().put(str(root), "/in", recursive=True)
    return "memory://in"


def by_pattern(root):
    return root / "**" / "*.*"


@pytest.mark.parametrize("kind", [str, as_zip, as_tar, in_memory, by_pattern])
def test_hidden_files_and_litter_have_no_row_but_are_counted(littered, tmp_path, memory, kind):
    """They do not make a run incomplete."""
    summary = score_here(kind(littered), tmp_path / "out.csv")
    names = {path.removeprefix("./") for path in read_csv(tmp_path / "out.csv")}
    assert names == {"b.png", "sub/c.png"}
    assert summary.skipped.keys() == {LITTER}
    assert summary.skipped[LITTER] >= len(HIDDEN)
    assert summary.skipped_named["Thumbs.db"] == LITTER if kind is str else True
    assert summary.complete
    assert f"× {LITTER}" in str(summary)


def test_other_things_without_a_row_still_make_a_run_incomplete(littered, tmp_path):
    os.mkfifo(littered / "pipe")
    assert not score_here(littered, tmp_path / "out.csv").complete


def test_hidden_files_that_a_person_names_are_read(littered, tmp_path):
    (littered / ".b.png").write_bytes(DIGIT)
    (tmp_path / "list").write_text(f"{littered}/.b.png\n{littered}/Thumbs.db\n")
    assert score_here(tmp_path / "list", tmp_path / "a.csv").files == 2
    assert score_here(littered / ".[a-c]*", tmp_path / "b.csv").files == 1
    (littered / ".git" / "objects" / "b.png").write_bytes(DIGIT)
    assert score_here(littered / ".git", tmp_path / "c.csv").files == 1


def test_litter_is_known_by_its_name():
    names = [*HIDDEN, *HIDDEN_FOLDERS, "...", "a/.x/b", "THUMBS.DB"]
    others = ["./a.png", "../a", "a./b.", "thumbs.db.png", "a.ini", "a/./b"]
    assert [name for name in names + others if is_litter(name)] == names


def test_evaluate_and_score_leave_out_the_same(littered, tmp_path):
    littered.rename(tmp_path / "5")
    shutil.move(tmp_path / "5", tmp_path / "digits" / "5")
    digits = ground_truth.from_folder(tmp_path / "digits", champion())
    score_here(tmp_path / "digits", tmp_path / "out.csv")
    assert list(digits.names) == list(read_csv(tmp_path / "out.csv")) == ["5/b.png", "5/sub/c.png"]
    assert "5/$RECYCLE.BIN" in digits.unlabelled


@pytest.mark.parametrize("options", [{"incremental": True}, {"retry_errors": True}])
def test_litter_that_an_earlier_version_scored_is_left_out_by_the_next_run(
    littered, tmp_path, monkeypatch, options
):
    """Version 1.0.0 wrote error rows for it, and the exit code was 3 for ever."""
    out = tmp_path / "out.csv"
    with monkeypatch.context() as earlier:
        earlier.setattr(planning, "is_litter", lambda path: False)
        first = score_here(littered, out, incremental="incremental" in options)
        assert first.statuses["error"] == len(HIDDEN) + len(HIDDEN_FOLDERS)
    summary = score_here(littered, out, **options)
    assert list(read_csv(out)) == ["b.png", "sub/c.png"]
    assert summary.complete
    assert summary.scored == 0


# --- a damaged manifest ---------------------------------------------------------------------------

ROW = ["", "ok", 5, 0.9, *[0.1] * 10, "", 28, 28, "0" * 64]


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"\xff\x00",
        b"{}",
        b"[]",
        b"5",
        b'["a.png", "", "5", 1, 1, []]',
        b'["a.png", null, 5, 1, 1, []]',
        b'["a.png", "", 5, 1, 1, ["ok"]]',
        b'["a.png", "", 5, 1, 1]',
        b'["a.png", "", 5, 1, 1, []], ["b.png", "", 5, 1, 1, []]',
        json.dumps(["a.png", "", 5, 1, 1, [[*ROW[:2], "five", *ROW[3:]]]]).encode(),
        b"",
    ],
)
def test_a_damaged_manifest_is_one_sentence(folder, tmp_path, line):
    with open_plan(str(folder), str(tmp_path / "out.csv")) as begun:
        file = begun.folder / MANIFEST
        lines = file.read_bytes().splitlines(keepends=True)
        good = begun.lines(0)
        lines[1] = line.ljust(len(lines[1]) - 1)[: len(lines[1]) - 1] + b"\n"
        file.write_bytes(b"".join(lines))
        with pytest.raises(ScoringError, match=r"manifest.jsonl: is damaged \(.*; remove .*nnpipe"):
            begun.lines(0)
        lines[1] = json.dumps([*good[1].entry, []]).encode() + b"\n"
        file.write_bytes(b"".join(lines))
        assert begun.lines(0) == good


def test_a_manifest_that_is_cut_short_is_one_sentence(folder, tmp_path):
    with open_plan(str(folder), str(tmp_path / "out.csv")) as begun:
        file = begun.folder / MANIFEST
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(ScoringError, match="not the 7 files that were listed"):
            begun.lines(0)
