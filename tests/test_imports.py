"""Imports run one way, and the way of a prediction is short."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from .conftest import ROOT

PACKAGE = ROOT / "nnpipe"

# Each module may import those of the rows above it, and its own row's packages' parts.
LAYERS = [
    {"errors", "hints"},
    {"places", "kinds", "settings"},
    {"files", "options", "epochs", "progress"},
    {"records", "processes", "pages"},
    {"network", "preprocess", "drift"},
    {"weights", "training", "calibration", "attribution", "numbers"},
    {"classifier", "datasets", "runs", "evaluation"},
    {"forms"},
    {"style"},
    {"adaptation"},
    {"scoring", "torch_training", "numpy_training", "explain"},
    {"ground_truth"},
    {"own"},
    {"champions"},
    {"report", "material"},
    {"stages"},
    {"demo", "arguments", "terminal", "notebook"},
    {"cli"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def imports(path):
    """The modules of nnpipe that a file imports, anywhere in it, as ("nnpipe", "part", …)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [alias.name for alias in node.names]
            if node.module == "nnpipe":
                yield from (["nnpipe", name] for name in names if name in LEVEL)
            else:
                yield node.module.split(".")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_run_down_only(path):
    relative = path.relative_to(PACKAGE).with_suffix("")
    module = relative.parts[0]
    if module == "__init__":
        return
    for name in imports(path):
        assert name[0] != "flows"
        assert name[0] != "prefect"
        if name[0] == "nnpipe" and len(name) > 1 and name[1] != module:
            assert LEVEL[name[1]] < LEVEL[module], f"{module} imports {name[1]}"
        if name[0] in ("torch", "torchvision"):
            assert relative.as_posix().startswith("torch_training/") or (
                relative.name == "torchvision_download"
            )


def test_network_and_training_import_numpy_alone():
    for module in ("network", "training", "weights", "drift", "attribution"):
        third_party = {name[0] for name in imports(PACKAGE / f"{module}.py")} - {"nnpipe"}
        assert third_party - set(sys.stdlib_module_names) == {"numpy"}


def lines(*modules):
    return sum(len((PACKAGE / f"{module}.py").read_text().splitlines()) for module in modules)


def test_the_network_stays_small_enough_to_read():
    assert lines("network", "training") < 300


def code_lines(path):
    """How many lines hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text()
    strings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    layout = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER"}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {
        line
        for token in tokens
        if tokenize.tok_name[token.type] not in layout
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - strings)


def test_the_project_stays_small_enough_to_read_in_an_afternoon():
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    assert sum(map(code_lines, sources)) <= 16280


HEAVY = {
    "fastapi",
    "fsspec",
    "jinja2",
    "torch",
    "torchvision",
    "prefect",
    "pandas",
    "matplotlib",
    "openpyxl",
    "pillow_heif",
    "pyarrow",
    "pypdfium2",
    "scipy",
    "sklearn",
    "starlette",
    "uvicorn",
    "xlsxwriter",
}


@pytest.mark.parametrize(
    ("name", "heavy"),
    [("3-dark-on-light.png", HEAVY), ("3-mnist-like.png", HEAVY | {"cv2"})],
)
def test_a_prediction_imports_nothing_heavy(tmp_path, name, heavy):
    """In a fresh process, from an empty folder, through the command itself. A picture like MNIST's
    is not prepared, so it needs no OpenCV."""
    sample = ROOT / "samples" / name
    code = f"""
import sys
from nnpipe import cli
sys.argv = ["nnpipe", "predict", {str(sample)!r}]
try:
    cli.main()
except SystemExit as exit:
    assert not exit.code, exit.code
heavy = {heavy!r} & sys.modules.keys()
assert not heavy, heavy
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ": 3  (" in done.stdout


def test_the_library_imports_without_any_extra(tmp_path):
    """Every module but those of an extra can be imported when no extra is installed."""
    blocked = tmp_path / "blocked"
    for name in HEAVY:
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text(f"raise ModuleNotFoundError(name={name!r})")
    code = "import nnpipe.cli, nnpipe.stages, nnpipe.scoring, nnpipe.torch_training.recipes"
    environment = {"PYTHONPATH": f"{blocked}:{ROOT}", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_every_module_says_what_it_is():
    for path in [
        *PACKAGE.rglob("*.py"),
        *(ROOT / "flows").glob("*.py"),
        *Path(ROOT / "tests").glob("m*.py"),
    ]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
