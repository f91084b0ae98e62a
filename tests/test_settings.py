"""Each parameter is described once, and used as described."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from typer.testing import CliRunner

from nnpipe import cli, settings
from nnpipe.errors import SettingError
from nnpipe.hints import HINTS
from nnpipe.settings import PARAMETERS, Request, TrainRequest, parameter
from nnpipe.torch_training.recipes import RECIPES

from .conftest import ROOT

REQUESTS = Request.__subclasses__()
SOURCES = sorted([*(ROOT / "nnpipe").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])


def short(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_the_table_has_each_field_of_a_request(kind):
    command = kind.__name__.removesuffix("Request").lower()
    for name, hint in get_type_hints(kind).items():
        about = parameter(name, command)
        assert about.help.endswith("."), name
        if type(None) in get_args(hint):
            assert about.if_none, f"{command}: {name} may be None, and nobody says what that means"


def test_the_table_has_nothing_else():
    """An entry that no request, command or flow has would be read by nobody."""
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "settings.py")
    fields = {name for kind in REQUESTS for name in get_type_hints(kind)}
    for key in PARAMETERS:
        name = key.rpartition(".")[2]
        assert name in fields or re.search(rf"\b{name}: ", text), key


def test_the_choices_of_recipes_are_the_recipes():
    assert set(get_args(settings.Recipe)) == RECIPES.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "jax"}, "engine is 'jax', expected torch, numpy"),
        ({"data": ("mnist", "drawn")}, "data names 'mnist' and 'drawn'; name one data set"),
        ({"recipe": "best"}, "recipe is 'best', expected augmented, classic, distilled"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch_size": 1_000_001}, "batch_size is 1000001, expected at most 1,000,000"),
    ],
)
def test_a_request_refuses_values_out_of_range(values, message):
    with pytest.raises(SettingError, match=message):
        TrainRequest(**values)


WRONG = {
    bool: (None, 1, "no"),
    int: (None, True, 1.5, "3", float("nan")),
    float: (None, True, "x", 1j, float("nan")),
    str: (None, b"x", 3, True),
    Path: (None, b"x", 3, True),
    tuple[str, ...]: (None, "mnist", b"x", [1], 3),
}
RIGHT = {
    bool: (True, True),
    int: (np.int64(3), 3),
    float: (np.float32(0.0625), 0.0625),
    str: (Path("a"), "a"),
    Path: ("a", Path("a")),
    tuple[str, ...]: ([Path("a"), "b"], ("a", "b")),
}
FIELDS = [(kind, name) for kind in REQUESTS for name in get_type_hints(kind)]


def of(kind, **values):
    """A request with these values and any for the fields that have no default."""
    fields = inspect.signature(kind).parameters.values()
    return kind(**{f.name: "a" for f in fields if f.default is f.empty} | values)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_request_takes_the_types_of_its_fields_and_no_others(kind, name):
    hint = get_type_hints(kind)[name]
    optional = type(None) in get_args(hint)
    plain = get_args(hint)[0] if optional else hint
    for value in WRONG.get(plain, (None, 1, ["mnist"])):
        if value is None and optional:
            assert getattr(of(kind, **{name: None}), name) is None
            continue
        with pytest.raises(SettingError, match=rf"^{name} is .*, expected \w+"):
            of(kind, **{name: value})
    if plain in RIGHT:
        value, expected = RIGHT[plain]
        made = getattr(of(kind, **{name: value}), name)
        assert (type(made), made) == (type(expected), expected)


def test_a_request_picks_its_fields():
    values = {"data": ["drawn"], "seed": 3, "force": True, "runner": "dask"}
    assert TrainRequest.pick(values, seed=4) == TrainRequest(data=("drawn",), seed=4)


def test_help_shows_the_choices_the_range_and_what_none_means():
    text = CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert "<torch|numpy>" in text
    assert "<augmented|classic|distilled>" in text
    assert "the recipe's; numpy: 10" in text
    assert "x>=1" in text


def test_every_advice_is_in_the_table_of_hints():
    used = {
        keyword.value.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "advice" and isinstance(keyword.value, ast.Constant)
    }
    assert used
    assert used <= HINTS.keys()
    assert HINTS.keys() <= used | {"again", "lost", "mirror"}  # the last two are of classes


FLAGS = "|".join(name.rpartition(".")[2].replace("_", "-") for name in PARAMETERS)
COMMANDS = "train|export|evaluate|models|predict|score|download|inspect|demo"
COMMAND = re.compile(rf"\bnnpipe ({COMMANDS})\b|--({FLAGS})(?![\w-])")
OWN_WORDS = {
    "nnpipe/cli.py",
    "nnpipe/hints.py",
    "nnpipe/settings.py",
    # A report says by which commands it was made.
    "nnpipe/stages.py",
    "nnpipe/report/metrics.py",
}


def texts(tree):
    """The strings of a module but docstrings."""
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.is_relative_to(ROOT / "nnpipe")], ids=short
)
def test_the_library_does_not_speak_command_line(path):
    if short(path) in OWN_WORDS:
        return
    for text in texts(ast.parse(path.read_text())):
        assert not COMMAND.search(text), text


FIXED = {
    # Signatures that others prescribe.
    "say_what_failed",
    "say_what_crashed",
    "say_what_was_cancelled",
    "_network_failed",
    "__call__",  # an ASGI application
}
FLOWS = {
    "download",
    "train",
    "export",
    "evaluate",
    "promote",
    "rollback",
    "score",
    "pipeline",
    "after_promotion",
}


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_functions_take_few_parameters_and_these_by_name(path):
    """Two by position, eight in all; a flow is flat, since Prefect's page needs that."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name in FIXED:
            continue
        if short(path).startswith("flows/") and node.name in FLOWS:
            continue
        positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        positional = [name for name in positional if name not in ("self", "cls")]
        where = f"{short(path)}:{node.lineno} {node.name}"
        assert len(positional) <= 2, where
        assert len(positional) + len(node.args.kwonlyargs) <= 8, where


@pytest.fixture
def flows():
    pytest.importorskip("prefect", reason="the flows need the extra nnpipe[flows]")
    from flows import after_promotion, download, evaluate, export, pipeline, promote, score, train

    return [
        after_promotion.after_promotion,
        download.download,
        evaluate.evaluate,
        export.export,
        pipeline.pipeline,
        promote.promote,
        score.score,
        train.train,
    ]


@pytest.mark.slow
def test_flows_and_requests_have_the_same_defaults_and_types(flows):
    kinds = {kind.__name__.removesuffix("Request").lower(): kind for kind in REQUESTS}
    for flow in flows:
        hints = get_type_hints(flow.fn)
        kind = kinds.get(flow.fn.__name__)
        fields = inspect.signature(kind).parameters if kind else {}
        for name, given in inspect.signature(flow.fn).parameters.items():
            described = flow.parameters.properties[name]["description"]
            assert described.startswith(parameter(name, flow.fn.__name__).help)
            where = f"{flow.name}: {name}"
            assert ("By default" in described) == (given.default is None), where
            is_default = given.default in (None, inspect.Parameter.empty)
            if type(None) in get_args(hints[name]) and not is_default:
                assert "null: " in described, where
            assert "null" not in described or type(None) in get_args(hints[name]), where
            if name in fields:
                assert given.default == fields[name].default, f"{flow.name}: {name}"
                assert hints[name] == get_type_hints(kind)[name], f"{flow.name}: {name}"
        assert fields.keys() <= inspect.signature(flow.fn).parameters.keys(), flow.name
    assert "prefect" in sys.modules
