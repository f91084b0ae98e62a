import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

# Before Prefect is imported: what it caches must not come from, or go to, the user's own home.
HOME = tempfile.mkdtemp(prefix="nnpipe-prefect-")
os.environ |= {
    "PREFECT_HOME": HOME,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402

import flows.download  # noqa: E402
from flows.download import download  # noqa: E402
from flows.evaluate import evaluate  # noqa: E402
from flows.export import export  # noqa: E402
from flows.pipeline import pipeline  # noqa: E402
from flows.score import score_folder  # noqa: E402
from flows.train import train  # noqa: E402
from nnpipe import datasets  # noqa: E402
from nnpipe.errors import MirrorError, OutputError, ScoringError  # noqa: E402

from .conftest import ROOT  # noqa: E402
from .make_samples import SAMPLES  # noqa: E402
from .mirror import serving  # noqa: E402

FLOWS = {
    "download": download,
    "train": train,
    "export": export,
    "evaluate": evaluate,
    "score-folder": score_folder,
    "pipeline": pipeline,
}


@pytest.fixture(scope="module", autouse=True)
def prefect():
    """One temporary server for all tests; it takes some ten seconds to start."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def few_digits(monkeypatch, small_pools):
    monkeypatch.setattr(datasets, "DRAWN_TRAINING", 3000)
    monkeypatch.setattr(datasets, "DRAWN_TEST", 500)
    monkeypatch.setattr(datasets, "VALIDATION", 500)


@pytest.fixture
def impatient(monkeypatch):
    """Try again at once."""
    quick = flows.download.fetch_mnist.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(flows.download, "fetch_mnist", quick)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_bear_their_names_and_explain_their_parameters(name):
    flow = FLOWS[name]
    assert flow.name == name
    assert flow.description
    for parameter in flow.parameters.properties.values():
        assert parameter["description"]


def test_the_pipeline_goes_from_nothing_to_a_scored_folder(tmp_path, few_digits):
    done = pipeline(
        dataset="drawn",
        epochs=4,
        source=SAMPLES,
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        reports_dir=tmp_path / "reports",
        run="r",
    )
    assert done.evaluated.n == 500
    assert done.scored.files == len(list(SAMPLES.iterdir()))
    assert (tmp_path / "runs" / "r" / "model_weights.npz").exists()
    figures = json.loads((tmp_path / "reports" / "r" / "metrics.json").read_text())
    assert figures["accuracy"] == done.evaluated.accuracy
    rows = (tmp_path / "reports" / "r" / "scores.csv").read_text().splitlines()
    assert len(rows) == 1 + done.scored.files

    said = str(done)
    for path in (done.trained.run, done.exported.weights, done.evaluated.report, done.scores):
        assert str(path) in said
    assert "of 500 DRAWN (not MNIST) test digits read right" in said

    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
    assert "pipeline-drawn-augmented-seed0" in names


@pytest.mark.slow
def test_a_mirror_that_answers_at_the_second_try_is_enough(tmp_path, mnist_files, impatient):
    with serving(mnist_files) as mirror:
        mirror.failing = 1
        done = download(dataset="mnist", data_dir=tmp_path, mirror=mirror.url)
    assert done.dataset == "mnist"
    assert datasets.load("mnist", tmp_path).name == "mnist"


def test_a_mirror_that_is_down_fails_with_a_sentence(tmp_path, impatient):
    state = download(dataset="mnist", data_dir=tmp_path, mirror="file:///none/", return_state=True)
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, MirrorError)
    assert "name another place with --mirror" in state.message


def test_auto_goes_on_with_drawn_digits_only_after_all_tries(
    tmp_path, impatient, few_digits, monkeypatch
):
    tries = []

    def fetch(folder, mirror):
        tries.append(mirror)
        raise MirrorError("nobody there")

    monkeypatch.setattr(flows.download.mnist, "fetch", fetch)
    assert download(dataset="auto", data_dir=tmp_path).dataset == "drawn"
    assert len(tries) == 3


def test_a_full_disk_is_not_tried_again(tmp_path, impatient, monkeypatch):
    tries = []

    def fetch(folder, mirror):
        tries.append(mirror)
        raise OutputError("no space")

    monkeypatch.setattr(flows.download.mnist, "fetch", fetch)
    with pytest.raises(OutputError):
        download(dataset="auto", data_dir=tmp_path)
    assert len(tries) == 1


def test_a_folder_that_is_missing_fails_with_a_sentence(tmp_path):
    with pytest.raises(ScoringError, match="cannot be listed"):
        score_folder(tmp_path / "none", tmp_path / "out.csv")


@pytest.mark.slow
def test_stages_run_as_flows_of_their_own(tmp_path, few_digits):
    download(dataset="drawn", data_dir=tmp_path)
    trained = train(dataset="drawn", epochs=2, data_dir=tmp_path, runs_dir=tmp_path / "runs")
    exported = export(trained.run, data_dir=tmp_path)
    evaluated = evaluate(exported.weights, data_dir=tmp_path, out=tmp_path / "report")
    scored = score_folder(SAMPLES, tmp_path / "scores.parquet", exported.weights)
    assert evaluated.n == 500
    assert scored.files == len(list(SAMPLES.iterdir()))


@pytest.mark.slow
def test_a_flow_run_by_hand_prints_where_all_lies_or_one_sentence(tmp_path):
    """In a process of its own, with an empty home, on Prefect's own temporary server."""

    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "home")}

    def by_hand(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "flows.score", *map(str, arguments)],
            cwd=ROOT,
            env={name: value for name, value in environment.items() if name != "PREFECT_API_URL"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    done = by_hand(SAMPLES, tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    assert "Summary(files=" in done.stdout
    failed = by_hand(tmp_path / "none", tmp_path / "scores.csv")
    assert failed.returncode == 1
    assert "\nscore-folder: " in failed.stderr
    assert "Traceback" not in failed.stderr, failed.stderr
