"""Nothing is done twice: a stage whose inputs have not changed gives the result it gave before.

The key is content: hashes of data, weights and nnpipe's own code, and parameters, never a flow run
or a date. Prefect keeps the results, below PREFECT_HOME or where its result storage is, and shows
such a task run as "Cached".
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy

from nnpipe.errors import NnpipeError
from nnpipe.files import sha256
from nnpipe.runs import code_version

P = ParamSpec("P")
R = TypeVar("R")


def by_content(describe: Callable[..., dict[str, Any] | None]) -> CacheKeyFnPolicy:
    """A cache policy for a task.

    Args:
        describe: takes the task's parameters by name, and gives whatever its result depends on,
            the content of files as hashes; None if that cannot be told.
    """

    def key(context: Any, parameters: dict[str, Any]) -> str | None:
        try:
            inputs = describe(**parameters)
        except (NnpipeError, OSError):
            return None  # the task will say what is wrong
        if inputs is None:
            return None
        # Paths may be relative, those of results, too.
        place = {"folder": Path.cwd(), "task": context.task.name, "code": code_version()}
        facts = place | inputs
        return sha256(json.dumps(facts, sort_keys=True, default=str).encode())

    return CacheKeyFnPolicy(cache_key_fn=key)


def unless_done(
    task: Task[P, R], outputs: Callable[[R], dict[Path, str | None]], force: bool = False
) -> Callable[P, R]:
    """The task as it is to be called: it runs if it must, or if ``force`` says so.

    Args:
        task: with a policy of `by_content`.
        outputs: files of a result and their SHA-256, None for any; if one has been removed or
            changed since, the task runs again.
        force: whether to run in any case.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        result = task.with_options(refresh_cache=force)(*args, **kwargs)
        if not all(_is_there(path, digest) for path, digest in outputs(result).items()):
            result = task.with_options(refresh_cache=True)(*args, **kwargs)
        return result

    return call


def _is_there(path: Path, digest: str | None) -> bool:
    return path.exists() and digest in (None, sha256(path.read_bytes()))
