"""Child processes that crash, hang, are killed from outside, or lose their parent."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from nnpipe import processes
from nnpipe.errors import OutputError, PictureError, ProcessError
from nnpipe.processes import over

from .conftest import ROOT
from .work import fall_over, fill_up, stop_between_items, twice


def call(*items, seconds=10, batch=10, workers=1):
    return list(over(fall_over, items, seconds=seconds, workers=workers, batch=batch))


def test_results_come_in_the_order_of_the_items():
    expected = list(range(0, 46, 2))
    assert [*over(twice, range(23), seconds=10, workers=2, batch=4)] == expected
    assert [*over(twice, [], seconds=10, workers=2)] == []


def test_more_than_a_pipe_holds_goes_both_ways():
    items = [bytes(3 * 2**20), b"x" * 2**20]
    assert [*over(twice, items, seconds=10)] == [2 * item for item in items]


def test_an_error_of_the_function_is_the_result_of_its_item_alone():
    first, refused, last = call(1, "refuse", 3)
    assert (first, str(refused), last) == (1, "not this one", 3)
    assert isinstance(refused, PictureError)


def test_a_bug_in_the_function_is_raised_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)in fall_over.*ZeroDivisionError: by zero"):
        call("bug")


@pytest.mark.parametrize(
    ("item", "how"),
    [("SIGSEGV", "SIGSEGV"), ("SIGABRT", "SIGABRT"), ("exit", "exit code 7: ")],
)
def test_an_item_that_crashes_its_child_is_tried_alone_and_blamed(item, how):
    found = call(1, item, 3)
    assert (found[0], found[2]) == (1, 3)
    assert isinstance(found[1], ProcessError)
    assert str(found[1]) == f"reading it ended the process, twice ({how})"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGHUP", "SIGALRM"])
def test_an_item_at_which_a_child_died_once_is_not_blamed(tmp_path, name):
    """A crash needs a second one to count; a kill from outside never counts."""
    item = ("once", name, str(tmp_path / "killed"))
    assert call(1, item, 3) == [1, item, 3]
    assert (tmp_path / "killed").exists()


@pytest.mark.slow
def test_kills_that_go_on_at_one_item_end_the_run(monkeypatch):
    starts = []
    start = processes._Child.__init__
    monkeypatch.setattr(
        processes._Child,
        "__init__",
        lambda *args, **fork: (starts.append(1), start(*args, **fork))[1],
    )
    with pytest.raises(ProcessError, match=r"end again and again \(SIGKILL\); give the machine"):
        call(1, "SIGKILL", 3)
    assert len(starts) == processes.MOST_DEATHS


@pytest.mark.slow
def test_kills_with_progress_between_them_do_not_end_the_run(tmp_path):
    items = [("once", "SIGKILL", str(tmp_path / str(number))) for number in range(8)]
    assert len(items) > processes.MOST_DEATHS
    assert call(*items) == items


@pytest.mark.slow
@pytest.mark.parametrize("item", [60.0, "SIGSTOP"])
def test_an_item_that_takes_too_long_is_blamed_and_its_child_is_killed(item):
    """A stopped child, too, which would not end by a signal that can be put off."""
    began = time.monotonic()
    found = call(1, item, 3, seconds=0.5)
    assert time.monotonic() - began < 10
    assert (found[0], found[2]) == (1, 3)
    assert str(found[1]) == "reading it took longer than 0.5 seconds"


def test_a_child_that_stands_still_between_items_is_killed_and_blames_none(monkeypatch):
    monkeypatch.setattr(processes, "BETWEEN_ITEMS", 1)
    job = processes.Job(None, 1)
    with pytest.raises(ProcessError, match=r"again and again \(SIGKILL\)"):
        list(processes.run(stop_between_items, [job], seconds=0.3, workers=1, fork=True))
    assert not job.blamed


@pytest.mark.slow
def test_the_wait_for_one_item_lets_other_children_work_on():
    began = time.monotonic()
    found = call(60.0, *range(30), seconds=2, batch=1, workers=2)
    assert time.monotonic() - began < 12
    assert found[1:] == list(range(30))


def test_an_item_gets_no_more_than_its_share_of_memory():
    with pytest.raises(RuntimeError, match="MemoryError"):
        call("memory")


def test_a_copy_of_this_process_does_the_same(tmp_path):
    items = [1, "exit", 60.0, ("once", "SIGKILL", str(tmp_path / "killed")), "refuse", 6]
    results = over(fall_over, items, seconds=0.5, fork=True)
    assert list(map(str, results)) == [
        "1",
        "reading it ended the process, twice (exit code 7: )",
        "reading it took longer than 0.5 seconds",
        str(items[3]),
        "not this one",
        "6",
    ]


def test_no_child_and_no_open_file_is_left_behind():
    before = len(list(Path("/proc/self/fd").iterdir()))
    call(1, "SIGSEGV", 3)
    with pytest.raises(RuntimeError):
        call("bug")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_full_folder_of_temporary_files_is_one_sentence(monkeypatch):
    """Where memory cannot be shared without a file."""

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert call(1) == [1]  # no file is needed here
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(OutputError, match=r"could not be written .*; free some space"):
        call(1)


def test_a_child_that_finds_no_room_says_so_in_one_sentence():
    with pytest.raises(OutputError, match=r"^/x/y: could not be written .No space left"):
        list(over(fill_up, ["/x/y"], seconds=10))


# --- orphans --------------------------------------------------------------------------------------

BRAND = "NNPIPE_TEST_ORPHANS"


def branded(value):
    """The processes that carry an environment variable, and are no zombies."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if f"{BRAND}={value}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def die_early(program, sent, wait):
    """Start a program, kill it after a while, and return its children that live 2 seconds later."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-c", *program],
        cwd=ROOT,
        env=os.environ | {BRAND: value},
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while len(branded(value)) < 2:  # a child has started
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(wait)
        assert process.poll() is None, "the parent has ended by itself"
        process.send_signal(sent)
        process.wait(10)
        time.sleep(2)
        return branded(value)
    finally:
        process.kill()
        process.wait()
        for pid in branded(value):
            os.kill(pid, signal.SIGKILL)


# What hangs in a child: calls of the name on the left.
PROGRAMS = {
    "": "list(over(tests.work.spin, [0, 1], seconds=600, workers=2))",
    "nnpipe.preprocess.grey": "nnpipe.scoring.score(nnpipe.scoring.ScoreRequest("
    "source='samples', out=sys.argv[1], workers=2))",
    "nnpipe.preprocess.grey ": "nnpipe.ground_truth.from_folder(pathlib.Path(sys.argv[1]), "
    "tests.seen.champion())",
    "nnpipe.datasets.redrawn._redraw": "nnpipe.datasets.redrawn.redraw(np.zeros((2, 28, 28), "
    "np.uint8), np.random.default_rng(0))",
}
HANGING = """
import pathlib, sys
import numpy as np
import nnpipe.ground_truth, nnpipe.scoring, nnpipe.datasets.redrawn, tests.seen, tests.work
from nnpipe import processes
from nnpipe.processes import over
nnpipe.datasets.redrawn.BATCH = 1
hang = "import nnpipe.preprocess, nnpipe.datasets.redrawn, tests.work; {name} = tests.work.spin; "
processes.START[-1] = processes.START[-1].replace("from nnpipe", hang + "from nnpipe")
{call}
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("wait", [0, 0.1, 0.4, 2.5])
@pytest.mark.parametrize("name", PROGRAMS)
def test_children_that_hang_end_with_their_parent(tmp_path, name, wait, sent):
    """In general, and when scoring, evaluating and redrawing; at the start and at work."""
    if "ground_truth" in PROGRAMS[name]:
        (tmp_path / "3").mkdir()
        (tmp_path / "3" / "a.png").write_bytes((ROOT / "samples/3-dark-on-light.png").read_bytes())
    target = tmp_path if "ground_truth" in PROGRAMS[name] else tmp_path / "out.csv"
    code = HANGING.format(name=name.strip() or "nothing", call=PROGRAMS[name])
    assert die_early([code, str(target)], sent, wait) == []
