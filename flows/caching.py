"""Cached stages: a stage whose inputs have not changed returns its stored result.

The key is a hash of data, weights, nnpipe's own code and parameters, never of a flow run or a date.
Results are JSON files below Prefect's local result storage; this module writes and reads them.
Prefect's own results are pickles, and each record names the serializer that reads it: a worker
would run the code of anyone who can write into the storage. So this module does not use them.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from prefect import Task
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.states import Completed

from nnpipe import records
from nnpipe.errors import NnpipeError, OutputError
from nnpipe.files import sha256, write_json
from nnpipe.runs import code_version

Q = TypeVar("Q")
R = TypeVar("R")

FOLDER = "nnpipe"
"""Folder of the results below Prefect's local result storage."""

log = logging.getLogger("nnpipe.flows")


def once(
    task: Task[[Q], R],
    request: Q,
    *,
    inputs: Callable[[Q], dict[str, Any] | None],
    outputs: Callable[[R], dict[Path, str | None]],
    force: bool = False,
) -> R:
    """Run the task of a stage, unless there is a result for the same inputs.

    If there is one, Prefect shows a task run in the state "Cached".

    Args:
        task: a stage; its result is a dataclass.
        request: what the stage is to do.
        inputs: returns everything that the result depends on, with hashes for the content of
            files; None if the task must run.
        outputs: files of a result and their SHA-256; None accepts any content. If a file was
            removed or changed, the task runs again.
        force: run in any case.
    """
    kind: type[R] = get_type_hints(task.fn)["return"]

    def path_now() -> Path | None:
        with suppress(NnpipeError, OSError):  # the task itself raises it again
            return _path(task, inputs(request))
        return None

    path = path_now()
    done = _result(path, kind) if path and not force else None
    if done and all(_is_there(file, digest) for file, digest in outputs(done).items()):
        # Make the state inside the task: the server drops a state older than "Running".
        Task(fn=lambda: Completed(name="Cached", data=done), name=task.name, persist_result=False)()
        return done
    done = task(request)
    if path and path == path_now():  # else an input has changed meanwhile
        try:
            content = asdict(done)  # type: ignore[call-overload]  # a stage's dataclass
            write_json(path, json.loads(json.dumps(content, default=str)))
        except OutputError as error:
            log.warning("%s: its result is not stored (%s)", task.name, error)
    return done


def _path(task: Task[..., Any], inputs: dict[str, Any] | None) -> Path | None:
    """Return the file of a stage's result for these inputs."""
    if inputs is None:
        return None
    # The working folder counts, because paths in inputs and results may be relative.
    facts = {"folder": Path.cwd(), "task": task.name, "code": code_version()} | inputs
    key = sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    return Path(PREFECT_LOCAL_STORAGE_PATH.value()) / FOLDER / f"{key}.json"


def _result(path: Path, kind: type[R]) -> R | None:
    """Read a result from a file; None if the file is missing or not a result."""
    try:
        result: R = records.load(kind, path)
        return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s: ignored, because it is not a result of nnpipe (%s)", path, error)
        return None


def _is_there(path: Path, digest: str | None) -> bool:
    try:
        return digest in (None, sha256(records.read_bytes(path)))
    except OSError:
        return False
