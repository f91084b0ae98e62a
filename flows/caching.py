"""Nothing is done twice: a stage whose inputs have not changed gives the result it gave before.

The key is content: hashes of data, weights and nnpipe's own code, and parameters, never a flow run
or a date. Results are JSON files below Prefect's local result storage, written and read here.
Prefect's own results are not used: they are pickles, so that a worker would run the code of anyone
who can write into the storage, and each record names the serializer that reads it.
"""

import inspect
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_type_hints

from prefect import Task
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.states import Completed

from nnpipe import records
from nnpipe.errors import NnpipeError, OutputError
from nnpipe.files import sha256, write_json
from nnpipe.runs import code_version

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "nnpipe"
"""Folder of the results, below Prefect's local result storage."""

log = logging.getLogger("nnpipe.flows")


def once(
    task: Task[P, R],
    describe: Callable[..., dict[str, Any] | None],
    *,
    outputs: Callable[[R], dict[Path, str | None]],
    force: bool = False,
) -> Callable[P, R]:
    """The task as it is to be called: it runs unless it has a result for the same inputs.

    Where it has one, Prefect shows a task run in the state "Cached".

    Args:
        task: a stage; its result is a dataclass.
        describe: takes the task's parameters by name and returns whatever its result depends on,
            the content of files as hashes; None if the task must run.
        outputs: files of a result and their SHA-256, None for any; if one has been removed or
            changed since, the task runs again.
        force: whether to run in any case.
    """
    kind: type[R] = get_type_hints(task.fn)["return"]

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        path = None
        with suppress(NnpipeError, OSError):  # the task will say what is wrong
            path = _path(
                task, describe(**inspect.signature(task.fn).bind(*args, **kwargs).arguments)
            )
        done = _result(path, kind) if path and not force else None
        if done and all(_is_there(file, digest) for file, digest in outputs(done).items()):
            # The state is made when the task runs: the server drops one older than "Running".
            Task(
                fn=lambda: Completed(name="Cached", data=done),
                name=task.name,
                persist_result=False,
            )()
            return done
        done = task(*args, **kwargs)
        if path:
            try:
                content = asdict(done)  # type: ignore[call-overload]  # a stage's dataclass
                write_json(path, json.loads(json.dumps(content, default=str)))
            except OutputError as error:
                log.warning("%s will be done again next time: %s", task.name, error)
        return done

    return call


def _path(task: Task[..., Any], inputs: dict[str, Any] | None) -> Path | None:
    """The file of a stage's result for these inputs."""
    if inputs is None:
        return None
    # Paths may be relative, those of results, too.
    facts = {"folder": Path.cwd(), "task": task.name, "code": code_version()} | inputs
    key = sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    return Path(PREFECT_LOCAL_STORAGE_PATH.value()) / FOLDER / f"{key}.json"


def _result(path: Path, kind: type[R]) -> R | None:
    """The result in a file; None if there is none, or anything else."""
    try:
        result: R = records.load(kind, path)
        return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s: is not a result of nnpipe and is not used (%s)", path, error)
        return None


def _is_there(path: Path, digest: str | None) -> bool:
    try:
        return digest in (None, sha256(records.read_bytes(path)))
    except OSError:
        return False
