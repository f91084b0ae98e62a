"""The benchmarks are all there, and what they compare keeps its order: ratios, never seconds.

The limits leave room for a busy machine, every way has one thread, and the best of some short
rounds counts. A trainer that became twice as slow is past them: when they were set, it took 0.7 of
scikit-learn's time and 1.5 of the floor's, and reading took 1.0 of PyTorch's.
"""

import ast
import runpy

import inference
import numpy as np
import numpy_training
import pytest

from nnpipe.network import Network

from .conftest import ROOT

FOLDER = ROOT / "benchmarks"
ROUNDS = 7


@pytest.fixture(scope="module")
def runner():
    """What is in benchmarks/__main__.py."""
    return runpy.run_path(str(FOLDER / "__main__.py"))


@pytest.fixture(scope="module")
def digits():
    """Random pixels and labels will do: speed does not depend on them."""
    rng = np.random.default_rng(0)
    return rng.random((8192, 784), np.float32), rng.integers(0, 10, 8192)


def ratio(times, peer):
    """nnpipe's least time beside a peer's."""
    return min(times["nnpipe", 1]) / min(times[peer, 1])


@pytest.mark.slow
def test_the_numpy_trainer_is_no_slower_than_scikit_learn(digits):
    times = numpy_training.seconds_per_epoch(digits, epochs=1, rounds=ROUNDS, threads=[1])
    assert ratio(times, "scikit-learn") < 1.3
    assert ratio(times, "floor: matrix products") < 2.5


@pytest.mark.slow
def test_reading_is_about_as_fast_as_pytorch(network, digits):
    """And all ways give the same probabilities."""
    times = inference.seconds_per_round(network, digits[0], 1024, rounds=ROUNDS, threads=[1])
    assert ratio(times, "PyTorch") < 1.5


def test_a_way_that_sees_something_else_is_not_timed(network, digits):
    X = digits[0][:10]
    other = Network.initialise(np.random.default_rng(1))
    ways = {"PyTorch": inference.pytorch(network), "other": inference.pytorch(other)}
    with pytest.raises(SystemExit, match="other sees something else"):
        inference.check(ways, network, X, threads=[1])


def test_every_script_is_run_by_make_bench(runner):
    """One is a script if it can be run.

    The record takes hours; peers are other programs; priors are fitted, not measured.
    """
    scripts = {
        path.stem for path in FOLDER.glob("[!_]*.py") if "__main__" in path.read_text("utf-8")
    }
    assert scripts - {"record", "peers", "fit_prior", "fit_cells"} == set(runner["BENCHMARKS"])


def test_every_benchmark_says_what_it_is():
    for path in FOLDER.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_results_hold_what_make_bench_writes(runner):
    """A section for each benchmark, with its command, in order, as if just written."""
    results = FOLDER / "results.md"
    if not results.exists():
        pytest.skip("make bench has not been run yet")
    sections = runner["read_sections"](results.read_text("utf-8"))
    assert tuple(sections) == runner["BENCHMARKS"]
    for name, section in sections.items():
        assert section.startswith(f"\n    python benchmarks/{name}.py")


def test_a_benchmark_renews_its_own_section_alone(runner, tmp_path):
    path = tmp_path / "results.md"
    sections = {name: f"\n    {name}\n\n### A table\n" for name in runner["BENCHMARKS"]}
    runner["write_results"](sections, path)
    before = path.read_text()
    runner["write_results"](runner["read_sections"](before), path)
    assert path.read_text() == before
    new = runner["read_sections"](before) | {"scoring": "\nfaster\n"}
    runner["write_results"](new, path)
    assert path.read_text() == before.replace(sections["scoring"], "\nfaster\n")
