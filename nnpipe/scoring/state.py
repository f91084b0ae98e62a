"""The state folder of an output: which files in it are nnpipe's, and who may use it.

Only files with the names below are removed, and only in a folder with the marker or a valid plan.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nnpipe.errors import ScoringError
from nnpipe.files import (
    TEMPORARY,
    locked,
    remove_files,
    replacing,
    sha256,
    size_of,
    temporary_folder,
)
from nnpipe.places import Place
from nnpipe.scoring.forms import SUFFIXES
from nnpipe.scoring.outputs import ELSEWHERE
from nnpipe.scoring.plan import ID, MANIFEST, PLAN, WEIGHTS, load_plan

LOCK, MARKER = "lock", "nnpipe-state.txt"

MARKER_TEXT = b"nnpipe keeps the state of a scoring in this folder. Remove it to start again.\n"
"""The content of the marker, for people; its name is what counts."""


_SHARD = rf"\d{{5,}}({'|'.join(map(re.escape, (*SUFFIXES, '.json')))})"
STATE = re.compile(
    rf"{re.escape(PLAN)}|{LOCK}|{re.escape(MARKER)}|{TEMPORARY}"
    rf"|{ID}/({re.escape(MANIFEST)}|{re.escape(WEIGHTS)}|{_SHARD}|{TEMPORARY})?"
)
"""The paths of nnpipe's files and folders within a state folder."""


def clear(state: Place, *, but: str = "") -> None:
    """Remove nnpipe's files from a state folder.

    The marker, the plan and the lock stay, and so do the manifest and the weights of the plan
    ``but``.
    """
    keep = (MARKER, PLAN, LOCK, f"{but}/{MANIFEST}", f"{but}/{WEIGHTS}")
    remove_files(state, lambda path: STATE.fullmatch(path) and path not in keep)


@contextmanager
def hold(state: Place, out: str) -> Iterator[None]:
    """Hold the lock of an output while the block runs. It is released when this process ends.

    It keeps out other processes on this machine, and those on other machines if the folder is
    shared and its file system supports locks.

    Raises:
        ScoringError: another process holds it, or the folder is not nnpipe's.
        OutputError: the folder cannot be written.
    """
    _check(state)
    lock = state / LOCK
    if not isinstance(lock, Path):
        name = f"nnpipe-{os.getuid()}-{sha256(str(state).encode())[:16]}.lock"
        lock = temporary_folder() / name
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False, output=Path(out)))
        except BlockingIOError:
            raise ScoringError(
                f"{out}: another process is scoring into it; wait for it, or name another output"
            ) from None
        try:
            if not (state / MARKER).exists():
                with replacing(state / MARKER) as marker:
                    marker.write(MARKER_TEXT)
            yield
        finally:
            if not (state / PLAN).exists():
                clear(state)
                with suppress(OSError):  # the marker stays for what somebody else put there
                    if {path.name for path in state.iterdir()} <= {LOCK, MARKER}:
                        remove_files(state, lambda path: path == MARKER)
                # The lock goes last, so no other process finds a half-removed folder unlocked.
                lock.unlink(missing_ok=True)
                if isinstance(state, Path):
                    with suppress(OSError):
                        state.rmdir()


def _check(state: Place) -> None:
    """Check that a state folder, if it exists, was made by nnpipe.

    Raises:
        ScoringError: it was not.
    """
    linked = isinstance(state, Path) and state.is_symlink()
    if not linked and not state.exists():
        return
    try:
        names = {path.name for path in state.iterdir()}
    except (NotADirectoryError, PermissionError, FileNotFoundError):
        names = {state.name}
    unfinished = all(name == LOCK or re.fullmatch(TEMPORARY, name) for name in names)
    if LOCK in names:
        try:
            unfinished = unfinished and not size_of(state / LOCK)  # nnpipe writes nothing into it
        except OSError:
            unfinished = False
    if linked or not (unfinished or MARKER in names or load_plan(state)):
        raise ScoringError(f"{state}: was not made by nnpipe, which needs this name; {ELSEWHERE}")
