"""A function's parameters as the arguments and options of a command, by the table in `settings`."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from nnpipe.settings import Parameter, Request, parameter


def as_command(function: Callable[..., Any]) -> Callable[..., None]:
    """Make a function a command for typer.

    Each parameter becomes an argument or an option with its help and its range. A parameter that is
    a request stands for all fields of that request.
    """
    hints = get_type_hints(function, include_extras=True)
    requests = {n: h for n, h in hints.items() if isinstance(h, type) and issubclass(h, Request)}
    options: list[inspect.Parameter] = []
    for name, option in inspect.signature(function).parameters.items():
        if name in requests:
            types = get_type_hints(requests[name])
            fields = inspect.signature(requests[name]).parameters.values()
            options += (field.replace(annotation=types[field.name]) for field in fields)
        else:
            options.append(option.replace(annotation=hints[name], kind=option.KEYWORD_ONLY))
    options = [
        o.replace(annotation=list[str], default=list(o.default))
        if get_origin(o.annotation) is tuple  # typer takes lists
        else o
        for o in options
    ]
    options = [o.replace(annotation=_annotate(o, function.__name__)) for o in options]

    @wraps(function)
    def command(**values: Any) -> None:
        built = {name: kind.pick(values) for name, kind in requests.items()}
        picked = {name for kind in requests.values() for name in get_type_hints(kind)}
        function(**built, **{name: v for name, v in values.items() if name not in picked})

    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command


def _annotate(option: inspect.Parameter, command: str) -> Any:
    """The type of an option, with what typer shows and checks."""
    about: Parameter = parameter(option.name, command)
    required = option.default is option.empty
    facts: dict[str, Any] = {"help": about.help, "min": about.least, "max": about.most}
    if option.default is None:
        facts["show_default"] = about.if_none or True
    if (about.kind or ("argument" if required else "option")) == "argument":
        return Annotated[option.annotation, typer.Argument(metavar=about.metavar, **facts)]
    name = about.flag or f"--{option.name.replace('_', '-')}"
    if option.annotation is bool and option.default and "/" not in name:
        name += f"/--no-{name[2:]}"
    return Annotated[option.annotation, typer.Option(name, **facts)]
