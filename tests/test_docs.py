"""The documents tell what is there: commands, options, targets, files and line counts."""

import json
import re
import shlex
import tomllib
from itertools import chain

import pytest
import typer

from nnpipe import cli

from .conftest import ROOT

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DOCS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
COMMANDS = {}  # "train" or, of a group, "models list" → the command
for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
    COMMANDS |= {f"{name} {sub}": c for sub, c in getattr(command, "commands", {}).items()} or {
        name: command
    }

# Commands that are to be pasted stand in blocks of bash, or in code that goes beyond their name.
SHOWN = [
    words
    for path in DOCS
    for line in re.findall(r"(?m)(?:^|`)(nnpipe [a-z][^`\n]*)", path.read_text())
    if len(words := shlex.split(line, comments=True)) > (2 if words[1] in COMMANDS else 3)
    or words[1] in ("download", "train")
]


def split(words):
    """The name of a command that is shown, and its arguments."""
    length = 2 if words[1] in COMMANDS else 3
    return " ".join(words[1:length]), words[length:]


def test_every_command_is_in_the_readme():
    for name in COMMANDS:
        assert f"nnpipe {name}" in README or f"make {name}" in README, name


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_every_command_shown_is_understood(words):
    """Its options exist and its values have their types."""
    name, arguments = split(words)
    context = COMMANDS[name].make_context(name, arguments, resilient_parsing=False)
    assert context.params


@pytest.mark.parametrize(
    "name", ["download", "train", "export", "evaluate", "promote", "score", "pipeline"]
)
def test_every_flow_is_in_the_readme(name):
    assert f"python -m flows.{name}" in README
    assert (ROOT / "flows" / f"{name}.py").exists()


def test_make_targets_that_are_named_exist_and_have_help():
    makefile = (ROOT / "Makefile").read_text()
    texts = "".join(path.read_text() for path in DOCS)
    for target in set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", texts)):
        assert re.search(rf"(?m)^{target}:.*## ", makefile), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_line_counts_are_true():
    for count, name in re.findall(r"\[(\d+)\]\((nnpipe/\w+\.py)\)", README):
        assert len((ROOT / name).read_text().splitlines()) == int(count), name


def test_the_champions_accuracy_is_that_of_its_report():
    metrics = json.loads((ROOT / "reports/champion/metrics.json").read_text())
    assert f"It reads {100 * metrics['accuracy']['value']:.2f} % of MNIST's test digits" in README


def test_every_module_is_on_the_map():
    for path in (ROOT / "nnpipe").iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert re.search(rf"\b{path.stem}\b", CONTRIBUTING), path.stem


def test_every_dependency_is_accounted_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    dependencies = chain(project["dependencies"], *extras)
    _, table = CONTRIBUTING.split("## Dependencies")
    for dependency in dependencies:
        name = re.match(r"[\w-]+", dependency).group()
        assert name == "nnpipe" or re.search(rf"\b{name}\b", table, re.IGNORECASE), name
