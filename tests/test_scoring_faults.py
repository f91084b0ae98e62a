"""Scoring is killed, starved, interrupted and doubled, and no row is lost or changed."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from nnpipe import processes
from nnpipe.errors import OutputError, ScoringError
from nnpipe.scoring import local, planning, read_rows
from nnpipe.scoring.plan import load_plan
from nnpipe.scoring.shards import run_shards
from nnpipe.scoring.summary import summary_file

from .conftest import ROOT
from .make_samples import SAMPLES, encoded, picture
from .scoring import open_plan, score
from .seen import prepare
from .test_scoring import content, read_csv, score_here

# The command with small shards, so that there are many of them.
COMMAND = """
import sys
from nnpipe.preprocess import prepare
from nnpipe.scoring import local, planning
planning.SHARD_FILES = 40
local.JUST_NOW = 0
sys.argv[0] = "nnpipe"
from nnpipe.cli import main
main()
"""
LIMIT = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """1,400 files: hard links to the samples, which are of every kind, bad ones among them."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(20):
        (folder / f"{number:02}").mkdir()
        for sample in SAMPLES.iterdir():
            if sample.stat().st_size < 10**6:
                (folder / f"{number:02}" / sample.name).hardlink_to(_copy(folder, sample))
    return folder


def _copy(folder, sample):
    """The samples may lie on another file system, across which there are no hard links."""
    copy = folder.parent / f"{folder.name}-{sample.name}"
    if not copy.exists():
        copy.write_bytes(sample.read_bytes())
    return copy


def heed_interrupts():
    """Where the tests run in a shell's background, Ctrl-C is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(source, out, *options, preexec_fn=heed_interrupts, **settings):
    command = [sys.executable, "-c", COMMAND, "score", source, "--out", out, *options]
    return subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
        **settings,
    )


def finish(process):
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said


def run(source, out, *options, **settings):
    return finish(start(source, out, *options, **settings))


def children(pid):
    """The processes that a process has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def done(out):
    """How many shards of an output are done."""
    found = load_plan(out.with_name(f"{out.name}.nnpipe"))
    return len(found.shards) - len(found.undone()) if found else 0


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    """What comes out when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for out in ("out.csv", "out"):
        code, said = run(pictures, folder / out, "--workers", 1)
        assert code == 3, said
    return folder


@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_twenty_kills_at_any_moment_change_no_byte(pictures, undisturbed, tmp_path, out):
    moments = random.Random(0)  # noqa: S311
    target = tmp_path / out
    for number in range(20):
        process = start(pictures, target, "--workers", 1 + number % 3)
        time.sleep(moments.uniform(0.1, 2.5))
        os.kill(process.pid, signal.SIGKILL)
        finish(process)
    code, said = run(pictures, target)
    assert code == 3, said
    assert content(target) == content(undisturbed / out)
    assert not target.with_name(f"{out}.nnpipe").exists()


def test_what_was_done_before_a_kill_is_not_done_again(pictures, undisturbed, tmp_path):
    out = tmp_path / "out.csv"
    process = start(pictures, out)
    wait_for(lambda: done(out) >= 3)
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    for pid in workers:  # they follow, by themselves
        wait_for(lambda pid=pid: not alive(pid), 10)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path).glob("*/*/*.csv")}
    assert len(before) >= 3
    process = start(pictures, out)
    wait_for(lambda: done(out) > len(before) or out.exists())
    for path, when in before.items():
        assert not path.exists() or path.stat().st_mtime_ns == when
    _, said = finish(process)
    assert "resuming: " in said
    assert content(out) == content(undisturbed / "out.csv")
    # What was compared with the validation digits was all of it, as undisturbed, and each once.
    found, expected = (
        json.loads(summary_file(target).read_text())["drift"]
        for target in (out, undisturbed / "out.csv")
    )
    assert found == expected


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_worker_that_the_system_kills_is_replaced_and_nothing_is_blamed(
    pictures, undisturbed, tmp_path
):
    out = tmp_path / "out.csv"
    process = start(pictures, out, "--workers", 2)
    for least in (1, 4, 8):
        wait_for(lambda least=least: done(out) >= least or process.poll() is not None)
        for pid in children(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
    code, said = finish(process)
    assert code == 3, said
    assert content(out) == content(undisturbed / "out.csv")


def test_ctrl_c_ends_within_two_seconds_and_keeps_what_is_done(pictures, undisturbed, tmp_path):
    out = tmp_path / "out.csv"
    process = start(pictures, out, start_new_session=True)
    wait_for(lambda: done(out) >= 2)
    workers = children(process.pid)
    pressed = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of them get it
    code, said = finish(process)
    assert time.monotonic() - pressed < 20  # 2, and what a busy machine adds
    assert code == 130
    assert said.splitlines()[-1] == (
        "interrupted; what is done is kept, and the same command goes on from there"
    )
    assert "Traceback" not in said
    assert not any(map(alive, workers))
    assert done(out) >= 2
    assert not out.exists()
    run(pictures, out)
    assert content(out) == content(undisturbed / "out.csv")


def test_a_second_scorer_on_the_same_output_is_told_so(pictures, tmp_path):
    out = tmp_path / "out.csv"
    process = start(pictures, out)
    try:
        wait_for(lambda: done(out) >= 1)
        code, said = run(SAMPLES, out)
        assert code == 1
        assert said == (
            f"nnpipe: {out}: another process is scoring into it; wait for it, or name another "
            "output\n"
        )
    finally:
        code, said = finish(process)
    assert code == 3, said
    assert len(read_csv(out)) == len(list(pictures.rglob("*.*")))


def test_another_command_does_not_go_on_with_what_was_begun(pictures, tmp_path):
    out = tmp_path / "out.csv"
    process = start(pictures, out)
    wait_for(lambda: done(out) >= 1)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    score_here(SAMPLES, out)
    assert len(read_csv(out)) == len(list(SAMPLES.iterdir()))


def test_a_full_disk_is_one_sentence_and_what_is_done_is_kept(pictures, undisturbed, tmp_path):
    """On a file system of its own that has little room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        code, said = run(pictures, disk / "out.csv")
        assert code == 1
        assert "No space left on device" in said
        assert "free some space" in said
        assert said.startswith("nnpipe: ")
        assert len(said.splitlines()) == 1
        assert not (disk / "out.csv").exists()
        assert done(disk / "out.csv") >= 1
        more = ["mount", "-o", "remount,size=40m", str(disk)]
        subprocess.run(more, check=True)
        code, said = run(pictures, disk / "out.csv")
        assert "resuming: " in said
        assert content(disk / "out.csv") == content(undisturbed / "out.csv")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_write_that_fails_in_the_middle_is_one_sentence(pictures, tmp_path):
    """No file may grow beyond 100 kB; the final one would."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code, said = run(pictures, tmp_path / "out.csv", preexec_fn=limit)
    assert code == 1
    assert "could not be written (File too large)" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.csv").exists()


# --- pictures that end the process that reads them ------------------------------------------------


def sabotage(monkeypatch, code):
    """Have worker processes run this before they start."""
    start = [*processes.START[:-1], code + processes.START[-1]]
    monkeypatch.setattr(processes, "START", start)


# What a worker imports before it starts: a picture of 3×3 pixels kills it, one of 5×5 hangs it, one
# of 7×7 takes all memory.
SABOTAGE = """
import os, signal, time
from nnpipe import preprocess
real = preprocess.grey
def grey(image):
    if image.size == (3, 3):
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.size == (5, 5):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        time.sleep(600)
    if image.size == (7, 7):
        return b"x" * 10**10
    return real(image)
preprocess.grey = grey
"""


@pytest.fixture
def saboteurs(tmp_path, monkeypatch):
    """A folder of good pictures with three among them that no process survives or ends."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(encoded(picture(number), "PNG"))
    for side in (3, 5, 7):
        (folder / f"{side}x.png").write_bytes(encoded(Image.new("L", (side, side)), "PNG"))
    sabotage(monkeypatch, SABOTAGE)
    monkeypatch.setattr(planning, "SHARD_FILES", 4)
    return folder


def test_a_picture_that_kills_or_hangs_its_reader_is_an_error_row(saboteurs, tmp_path, monkeypatch):
    monkeypatch.setattr(local.Local, "seconds", 2)
    began = time.monotonic()
    score(str(saboteurs), str(tmp_path / "out.csv"), workers=2)
    assert time.monotonic() - began < 30
    rows = read_csv(tmp_path / "out.csv")
    assert rows["3x.png"]["reason"] == "reading it ended the process, twice (SIGSEGV)"
    assert rows["5x.png"]["reason"] == "reading it took longer than 2 seconds"
    assert rows["7x.png"]["status"] == "error"
    assert "memory" in rows["7x.png"]["reason"].lower()
    for number in range(10):
        assert rows[f"{number}.png"]["label"] == str(number)


# Small pictures wait for each other on a sheet before they are drawn. One with a corner of this
# level kills the process that draws it: by a signal from outside, twice, or by a crash.
KILLED, CRASHING = 211, 212
SMALL = f"""
import os, signal
from nnpipe import preprocess
real = preprocess.grey
def grey(image):
    corner = image.getpixel((0, 0))
    if image.size == (28, 28) and corner == {CRASHING}:
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.size == (28, 28) and corner == {KILLED}:
        for number in range(2):
            file = os.environ["NNPIPE_TEST_KILLS"] + str(number)
            if not os.path.exists(file):
                open(file, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    return real(image)
preprocess.grey = grey
"""


def small(label, corner=210):
    """A picture of 28×28 pixels on grey paper, so that it is drawn as larger ones are."""
    image = picture(label, (28, 28), 18, pen=2, paper=(210, 210, 210)).convert("L")
    image.putpixel((0, 0), corner)
    return encoded(image, "PNG")


@pytest.mark.parametrize("corner", [KILLED, CRASHING])
def test_among_small_pictures_the_right_one_is_blamed_or_none(tmp_path, monkeypatch, corner):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.png").write_bytes(small(number % 10))
    score_here(folder, tmp_path / "expected.csv")
    (folder / "07.png").write_bytes(small(7, corner))
    sabotage(monkeypatch, SMALL)
    monkeypatch.setenv("NNPIPE_TEST_KILLS", str(tmp_path / "kill"))
    score(str(folder), str(tmp_path / "out.csv"), workers=1)
    rows, expected = read_csv(tmp_path / "out.csv"), read_csv(tmp_path / "expected.csv")
    seven = rows.pop("07.png")
    if corner == CRASHING:
        assert seven["reason"] == "reading it ended the process, twice (SIGSEGV)"
    else:
        assert (tmp_path / "kill1").exists()
        assert seven["status"] == "ok"
    expected.pop("07.png")
    assert rows == expected


def test_twenty_scorings_with_workers_killed_at_random_end_in_the_same_bytes(tmp_path):
    """As by a system short of memory. No picture is blamed, and no row is lost."""
    folder = tmp_path / "in"
    folder.mkdir()
    for label in range(10):
        little = small(label)
        larger = encoded(picture(label, (600, 700), 460, pen=40), "JPEG")
        mnist_like = encoded(Image.fromarray(prepare(larger).pixels), "PNG")
        for number in range(200):
            kind = mnist_like if number % 4 == 0 else little
            (folder / f"{number:03}-{label}.png").write_bytes(kind)
        for number in range(5):
            (folder / f"{number:03}-{label}.jpg").write_bytes(larger)
    score(str(folder), str(tmp_path / "expected.csv"), workers=2)
    expected = content(tmp_path / "expected.csv")["expected.csv"]
    chance = random.Random(0)  # noqa: S311
    kills = 0
    for number in range(20):
        over = threading.Event()

        def kill(over=over):
            nonlocal kills
            for _ in range(processes.MOST_DEATHS - 1):
                if over.wait(chance.uniform(0.05, 0.6)):
                    return
                if workers := children(os.getpid()):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    kills += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            score(str(folder), str(tmp_path / f"{number}.csv"), workers=2)
        finally:
            over.set()
            killer.join()
        assert (tmp_path / f"{number}.csv").read_bytes() == expected
    assert kills >= 40


def test_who_is_stopped_for_a_while_blames_no_picture(pictures, undisturbed, tmp_path):
    """As by Ctrl-Z, or with the machine: the workers stood still, too."""
    patience = "local.Local.seconds = property(lambda self: 3)\n"
    out = tmp_path / "out.csv"
    command = [sys.executable, "-c", COMMAND.replace("local.JUST", f"{patience}local.JUST")]
    command += ["score", str(pictures), "--out", str(out)]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: done(out) >= 2)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(5)
    os.killpg(process.pid, signal.SIGCONT)
    code, said = finish(process)
    assert code == 3, said
    assert content(out) == content(undisturbed / "out.csv")


def test_workers_that_die_of_nothing_in_the_pictures_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(
        processes, "START", [sys.executable, "-c", "import sys; sys.exit('no luck')"]
    )
    with pytest.raises(ScoringError, match=r"end again and again .exit code 1: no luck"):
        score(str(SAMPLES), str(tmp_path / "out.csv"), workers=1)


def test_an_error_within_a_worker_is_the_same_here(tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    with open_plan(str(SAMPLES), str(out)) as found:
        (found.folder / "model_weights.npz").unlink()
        with pytest.raises((ScoringError, OutputError, FileNotFoundError, RuntimeError)):
            run_shards(found, found.undone(), workers=1)


def test_workers_compute_on_one_thread_each():
    assert {
        processes.ENVIRONMENT[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    } == {"1"}
    assert processes.MEMORY == 2 * 2**30


def test_what_lies_in_the_working_folder_is_not_imported(tmp_path):
    """A folder of pictures may hold anything, also a file that is called as a module is."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(picture(4), "PNG"))
    for name in ("random", "numpy", "PIL", "nnpipe"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this must not be imported')")
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from nnpipe import scoring; "
    code += "scoring.score(scoring.ScoreRequest(source='in', out='out.csv'))"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert read_csv(tmp_path / "out.csv")["a.png"]["label"] == "4"


# --- increments -----------------------------------------------------------------------------------


def test_an_incremental_run_that_is_killed_goes_on_and_loses_nothing(pictures, tmp_path):
    out = tmp_path / "out"
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.png").write_bytes(encoded(picture(number % 10), "PNG"))
    code, said = run(folder, out, "--incremental")
    assert code == 0, said
    for number in range(20):
        (folder / f"{number}.png").unlink()
    for number in range(60, 400):
        (folder / f"{number}.png").write_bytes(encoded(picture(number % 10), "PNG"))
    process = start(folder, out, "--incremental")
    wait_for(lambda: done(out) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    code, said = run(folder, out, "--incremental")
    assert "resuming: " in said
    assert "; 340 new, 40 kept, 20 gone)" in said
    rows = {int(row.path.removesuffix(".png")): row for row in read_rows(out)}
    assert {n: row.label for n, row in rows.items()} == {n: n % 10 for n in range(400)}
    assert {n for n, row in rows.items() if row.gone} == {*range(20)}
    first, second = rows[0].run, rows[399].run
    assert {n: row.run for n, row in rows.items()} == {
        n: first if n < 60 else second for n in range(400)
    }


def test_progress_in_json_is_a_line_each(pictures, tmp_path):
    _, said = run(pictures, tmp_path / "out.csv", "--progress", "json")
    told = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert told[-1]["done"] == told[-1]["of"] == len(read_csv(tmp_path / "out.csv"))
    assert {"done", "of", "rate", "seconds_left"} == set(told[-1])
