import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from datetime import date
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from distributed import Client, LocalCluster

# Before Prefect is imported: what it caches must not come from, or go to, the user's own home.
HOME = tempfile.mkdtemp(prefix="nnpipe-prefect-")
os.environ |= {
    "PREFECT_HOME": HOME,
    "PREFECT_LOGGING_EXTRA_LOGGERS": "nnpipe",  # as `flows` sets it
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
from prefect import flow  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import FlowRun  # noqa: E402
from prefect.exceptions import ParameterTypeError  # noqa: E402
from prefect.results import ResultRecord  # noqa: E402
from prefect.settings import PREFECT_API_URL  # noqa: E402

import flows.caching  # noqa: E402
import flows.download  # noqa: E402
import flows.evaluate  # noqa: E402
import flows.interface  # noqa: E402
import flows.pipeline  # noqa: E402
import flows.score  # noqa: E402
import flows.train  # noqa: E402
from flows.after_promotion import after_promotion  # noqa: E402
from flows.download import download  # noqa: E402
from flows.evaluate import evaluate  # noqa: E402
from flows.export import export  # noqa: E402
from flows.interface import HOOKS, Progress, artifact_key  # noqa: E402
from flows.pipeline import pipeline  # noqa: E402
from flows.promote import promote  # noqa: E402
from flows.score import score as score_folder  # noqa: E402
from flows.train import train  # noqa: E402
from nnpipe import datasets, report, runs, stages, weights  # noqa: E402
from nnpipe.errors import (  # noqa: E402
    MirrorError,
    NnpipeError,
    OutputError,
    ScoringError,
    SettingError,
    WeightsError,
)
from nnpipe.files import sha256  # noqa: E402
from nnpipe.scoring import planning  # noqa: E402
from nnpipe.scoring.plan import load_plan  # noqa: E402
from nnpipe.scoring.shards import run_shards  # noqa: E402
from nnpipe.settings import PARAMETERS, ScoreRequest, TrainRequest  # noqa: E402
from nnpipe.torch_training import train as torch_training  # noqa: E402

from .conftest import ROOT  # noqa: E402
from .make_samples import SAMPLES, encoded, picture  # noqa: E402
from .mirror import serving  # noqa: E402
from .scoring import score as score_by_command  # noqa: E402

pytestmark = pytest.mark.slow  # each flow run takes a second

FLOWS = {
    "download": download,
    "train": train,
    "export": export,
    "evaluate": evaluate,
    "promote": promote,
    "score-folder": score_folder,
    "pipeline": pipeline,
    "after-promotion": after_promotion,
}


@pytest.fixture(scope="module", autouse=True)
def prefect():
    """One temporary server for all tests; it takes some ten seconds to start."""
    from prefect.testing.utilities import prefect_test_harness  # imports all of the server

    with prefect_test_harness(server_startup_timeout=120):
        yield
    shutil.rmtree(HOME, ignore_errors=True)


def until(found, seconds=60):
    """Wait for something to be there, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def ask(path, **body):
    with get_client(sync_client=True) as client:
        return client.request("POST", path, json=body).json()


def artifacts_of(state):
    """The artifacts of the flow run that ended in this state, by the kind that begins their key."""
    run = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}
    found = ask("/artifacts/filter", artifacts=run)
    return {(artifact["key"] or "progress").split("-")[0]: artifact for artifact in found}


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


@pytest.mark.parametrize("name", FLOWS)
def test_prefect_knows_the_ranges_of_all_numbers(name):
    """Its page and its server refuse what is out of range before there is a run."""
    for key, parameter in FLOWS[name].parameters.properties.items():
        about = PARAMETERS.get(f"{name}.{key}") or PARAMETERS.get(key)
        kinds = parameter.get("anyOf", [parameter])
        (number,) = [k for k in kinds if k.get("type") in ("integer", "number")] or [{}]
        limits = (about.least, about.most) if about else (None, None)
        assert (number.get("minimum"), number.get("maximum")) == limits, key


def test_the_pipeline_goes_from_nothing_to_a_scored_folder(tmp_path, few_digits):
    state = pipeline(
        dataset="drawn",
        epochs=4,
        source=SAMPLES,
        data_dir=tmp_path / "data",
        weights_dir=tmp_path / "weights",
        reports_dir=tmp_path / "reports",
        run="r",
        return_state=True,
    )
    done = state.result()
    assert done.evaluated.n == 500
    assert done.scored.files == len(list(SAMPLES.iterdir()))
    assert (tmp_path / "weights/runs/r/model_weights.npz").exists()
    figures = json.loads((tmp_path / "reports" / "r" / "metrics.json").read_text())
    assert figures["accuracy"]["value"] == done.evaluated.accuracy
    # Report and promotion look at the same champion, and in this folder there is none.
    assert figures["summary"]["against_champion"] == "There is no champion to compare with."
    rows = (tmp_path / "reports" / "r" / "scores.csv").read_text().splitlines()
    assert len(rows) == 1 + done.scored.files

    said = str(done)
    for path in (done.trained.run, done.exported.weights, done.evaluated.report, done.scores):
        assert str(path) in said
    assert "of 500 DRAWN (not MNIST) test digits read right" in said

    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
    assert "pipeline-drawn-augmented-seed0" in names
    artifacts = artifacts_of(state)
    assert artifacts["evaluation"]["key"].startswith("evaluation-pipeline-")
    text = artifacts["evaluation"]["data"]
    assert text.startswith(f"# {done.evaluated.accuracy:.2%} of 500 digits")
    assert f"`{tmp_path / 'reports' / 'r' / 'report.html'}`" in text
    rows = json.loads(artifacts["per"]["data"])
    assert [row["support"] for row in rows] == [c["support"] for c in figures["classes"]]
    url = artifacts["confusion"]["data"]
    picture = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert f"{done.scored.files} rows" in artifacts["scores"]["data"]
    assert artifacts["progress"]["data"] == 100
    assert picture == (tmp_path / "reports" / "r" / "plots" / "confusion.png").read_bytes()


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
    assert "could not be downloaded" in state.message


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
        score_folder(str(tmp_path / "none"), str(tmp_path / "out.csv"))


@pytest.fixture
def many_pictures(tmp_path, monkeypatch):
    """400 pictures, and shards of 10."""
    monkeypatch.setattr(planning, "SHARD_FILES", 10)
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = [encoded(picture(digit), "PNG") for digit in range(10)]
    for number in range(400):
        (folder / f"{number}.png").write_bytes(pictures[number % 10])
    return folder


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_tasks_score_as_the_command_does(tmp_path, many_pictures, runner):
    score_by_command(many_pictures, tmp_path / "command.csv")
    done = score_folder(str(many_pictures), str(tmp_path / "flow.csv"), workers=2, runner=runner)
    assert done.statuses == {"ok": 400}
    assert (tmp_path / "flow.csv").read_bytes() == (tmp_path / "command.csv").read_bytes()


def test_a_full_disk_in_a_task_is_the_sentence_of_the_flow(tmp_path, many_pictures, monkeypatch):
    def full(*anything, **named):
        raise OutputError("/x: could not be written (No space left on device)")

    monkeypatch.setattr(flows.score, "run_shards", full)
    with pytest.raises(OutputError, match="No space left"):
        score_folder(str(many_pictures), str(tmp_path / "out.csv"))


def test_shards_that_are_lost_are_given_out_again(tmp_path, many_pictures, monkeypatch):
    """As when the machine dies that has them; but not for ever."""
    calls = []

    def first_is_lost(plan, shards, workers, on_rows):
        calls.append(shards)
        if len(calls) > 1:
            run_shards(plan, shards, workers=workers, on_rows=on_rows)

    monkeypatch.setattr(flows.score, "run_shards", first_is_lost)
    done = score_folder(str(many_pictures), str(tmp_path / "out.csv"), workers=1)
    assert done.files == 400
    assert {*chain(*calls[4:])} == {*calls[0]}

    monkeypatch.setattr(flows.score, "run_shards", lambda *anything, **named: None)
    with pytest.raises(ScoringError, match="shards could not be done"):
        score_folder(str(many_pictures), str(tmp_path / "none.csv"), workers=1)


def events_of(out):
    """The events that Prefect keeps of an output that has drifted; they come after a while."""
    match = {
        "event": {"name": [flows.score.DRIFTED]},
        "resource": {"id": [f"nnpipe.scores.{out}"]},
    }
    with get_client(sync_client=True) as client:
        return client.request("POST", "/events/filter", json={"filter": match}).json()["events"]


def test_a_run_that_has_drifted_emits_an_event_and_others_none(tmp_path, many_pictures, caplog):
    """By many tasks, but once for all; 400 digits that are drawn all alike are drift."""
    done = score_folder(str(many_pictures), str(tmp_path / "drifted.csv"), workers=2)
    assert done.drift.past
    assert f"drifted.csv: drift: {done.drift}" in caplog.text
    for _ in range(300):
        if events := events_of(tmp_path / "drifted.csv"):
            break
        time.sleep(0.1)
    (event,) = events
    assert event["payload"] == json.loads(json.dumps(asdict(done.drift)))
    assert event["resource"]["prefect.resource.name"] == str(tmp_path / "drifted.csv")
    related = {resource["prefect.resource.role"] for resource in event["related"]}
    assert {"flow", "flow-run"} <= related

    for path in sorted(many_pictures.iterdir())[3:]:
        path.unlink()
    done = score_folder(str(many_pictures), str(tmp_path / "few.csv"))
    assert not done.drift.past
    time.sleep(1)
    assert not events_of(tmp_path / "few.csv")
    assert len(events_of(tmp_path / "drifted.csv")) == 1


def test_only_the_flow_that_scores_a_folder_announces_drift(tmp_path, many_pictures, caplog):
    """The samples, which other flows score, are bad on purpose."""

    @flow(name="another")
    def another():
        request = ScoreRequest(source=str(many_pictures), out=str(tmp_path / "out.csv"))
        return flows.score.score_source(request)

    assert another().drift.past
    assert "out.csv: drift: " not in caplog.text
    time.sleep(1)
    assert not events_of(tmp_path / "out.csv")


def test_what_nnpipe_logs_is_in_the_log_of_the_run(tmp_path, many_pictures):
    state = score_folder(
        str(many_pictures), str(tmp_path / "out.csv"), incremental=True, return_state=True
    )
    run = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}

    def said():
        return "\n".join(line["message"] for line in ask("/logs/filter", logs=run))

    until(lambda: "every file is scored: there is no table of an earlier run" in said())


@pytest.mark.parametrize("runner", ["threads", "processes", "dask"])
def test_a_run_that_is_ended_ends_its_tasks_at_once_and_is_resumed(tmp_path, runner):
    """Prefect would wait for them; after 30 seconds a worker kills the process."""
    folder, out = tmp_path / "in", tmp_path / "out.csv"
    folder.mkdir()
    photo = (SAMPLES / "3-large.jpg").read_bytes()
    (folder / "0.jpg").write_bytes(photo)
    for number in range(1, 1000):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    command = [sys.executable, "-m", "flows.score", str(folder), "--out", str(out)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "--runner", runner, "--workers", "2"],
            cwd=ROOT,
            env=os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()},
            stdout=log,
            stderr=log,
        )
    try:
        state = tmp_path / "out.csv.nnpipe"
        until(lambda: process.poll() is not None or list(state.rglob("0*.json")), 120)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        # While a task is submitted, pydantic makes another error of Prefect's exception.
        assert process.wait(10) in (-signal.SIGTERM, 1), (tmp_path / "log").read_text()
        assert not psutil.wait_procs(children, timeout=5)[1]
    finally:
        process.kill()
    done = len(load_plan(state).shards) - len(load_plan(state).undone())
    assert done
    resumed = score_by_command(folder, out)
    assert resumed.files == 1000
    assert resumed.statuses == {"ok": 1000}


@pytest.mark.filterwarnings("ignore")  # of distributed, about ports that are taken
def test_a_dask_cluster_of_one_machine_listens_on_loopback_only():
    """Scheduler and dashboard; whoever reaches a Dask port can run code."""
    runner = flows.score.task_runner("dask", workers=2, dask_address=None)
    with LocalCluster(**runner.cluster_kwargs | {"n_workers": 0}, asynchronous=False):
        sockets = psutil.Process().net_connections("tcp")
        listening = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.fixture
def dask_cluster(tmp_path):
    """A scheduler and two workers, each a process of its own: the address, and the workers."""
    file = tmp_path / "scheduler.json"
    processes = []

    def start(what, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options]
        with open(tmp_path / f"{what}-{len(processes)}.log", "w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))

    start("scheduler", "--port", "0", "--scheduler-file", str(file), "--no-dashboard")
    for _ in range(2):
        start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny")
    try:
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait(timeout=30)


@pytest.mark.filterwarnings("ignore")  # of distributed, about ports that are taken and such
def test_on_dask_a_worker_may_die_in_mid_run(tmp_path, many_pictures, dask_cluster):
    address, workers = dask_cluster
    score_by_command(many_pictures, tmp_path / "one.csv", workers=1)
    killed = []

    def kill_one():
        state = tmp_path / "two.csv.nnpipe"
        for _ in range(6000):
            found = load_plan(state)
            if found and len(found.undone()) < len(found.shards) - 2:
                workers[0].kill()
                killed.append(len(found.undone()))
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = score_folder(
        str(many_pictures), str(tmp_path / "two.csv"), runner="dask", dask_address=address
    )
    killer.join()
    assert killed
    assert killed[0] > 0, "it was over too soon"
    assert done.files == 400
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_stages_run_as_flows_of_their_own(tmp_path, few_digits):
    download(dataset="drawn", data_dir=tmp_path)
    trained = train(data=("drawn",), epochs=2, data_dir=tmp_path, weights_dir=tmp_path / "weights")
    exported = export(trained.run, data_dir=tmp_path)
    evaluated = evaluate(exported.weights, data_dir=tmp_path, out=tmp_path / "report")
    scored = score_folder(str(SAMPLES), str(tmp_path / "scores.parquet"), exported.weights)
    assert evaluated.n == 500
    assert scored.files == len(list(SAMPLES.iterdir()))


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

    done = by_hand(SAMPLES, "--out", tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    assert "74 rows (7 error, 59 ok, 8 rejected)" in done.stdout
    failed = by_hand(tmp_path / "none", "--out", tmp_path / "scores.csv")
    assert failed.returncode == 1
    assert "\nscore-folder: " in failed.stderr
    assert "Traceback" not in failed.stderr, failed.stderr


def small(tmp_path, **more):
    return {
        "dataset": "drawn",
        "epochs": 2,
        "recipe": "classic",
        "source": SAMPLES,
        "data_dir": tmp_path / "data",
        "weights_dir": tmp_path / "weights",
        "reports_dir": tmp_path / "reports",
        **more,
    }


def test_what_is_done_is_not_done_again_unless_something_has_changed(tmp_path, few_digits):
    first = pipeline(**small(tmp_path))
    again = pipeline(**small(tmp_path))
    assert again.trained == first.trained
    assert len(list((tmp_path / "weights/runs").iterdir())) == 1
    assert again.scored.scored == 0
    assert again.scored.files == first.scored.files

    other_seed = pipeline(**small(tmp_path, seed=1))
    forced = pipeline(**small(tmp_path, force=True))
    assert len({done.trained.run for done in (first, other_seed, forced)}) == 3

    shutil.rmtree(forced.trained.run)
    anew = pipeline(**small(tmp_path))
    assert anew.trained.run.exists()
    anew.exported.weights.write_bytes(b"damaged")
    (anew.evaluated.report / "metrics.json").write_text("{}")
    mended = pipeline(**small(tmp_path))
    assert mended.exported == anew.exported
    assert mended.evaluated.accuracy == anew.evaluated.accuracy
    assert json.loads((mended.evaluated.report / "metrics.json").read_text())["n"] == 500


def test_a_source_that_is_missing_is_said_before_training(tmp_path):
    with pytest.raises(ScoringError, match="cannot be listed"):
        pipeline(**small(tmp_path, source=tmp_path / "none"))
    assert not (tmp_path / "data").exists()


def test_other_code_is_another_key(tmp_path, few_digits, monkeypatch):
    first = pipeline(**small(tmp_path))
    monkeypatch.setattr(runs, "code_version", lambda: "another")
    monkeypatch.setattr(flows.caching, "code_version", runs.code_version)
    assert pipeline(**small(tmp_path)).trained.run != first.trained.run


def brief(tmp_path, **more):
    """The parameters of a short training."""
    where = {"data_dir": tmp_path / "data", "weights_dir": tmp_path / "weights"}
    return {"data": ("drawn",), "epochs": 3, "recipe": "classic", **where, **more}


def test_a_training_without_a_name_is_resumed_by_the_same_request(
    tmp_path, few_digits, monkeypatch
):
    """It is interrupted after an epoch, and then started again."""
    datasets.prepare("drawn", tmp_path / "data")
    monkeypatch.setattr(torch_training, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    shown = []

    def interrupt(progress, share):
        shown.append(share)
        raise RuntimeError("interrupted")

    monkeypatch.setattr(Progress, "show", interrupt)
    with pytest.raises(RuntimeError, match="interrupted"):
        train(**brief(tmp_path))
    monkeypatch.setattr(Progress, "show", lambda progress, share: shown.append(share))
    done = train(**brief(tmp_path))
    assert [round(3 * share) for share in shown] == [1, 2, 3]
    assert [path.name for path in (tmp_path / "weights" / "runs").iterdir()] == [done.run.name]
    assert re.fullmatch("drawn-classic-seed0-[0-9a-f]{8}", done.run.name)
    for change in ({"seed": 1}, {"lr": 0.1}, {"recipe": "augmented"}):
        other = train(**brief(tmp_path, epochs=1, **change))
        assert other.run.name[-8:] != done.run.name[-8:]


@pytest.mark.parametrize("file", [runs.MODEL, runs.RECORD])
def test_a_finished_run_that_is_damaged_makes_way_for_another(tmp_path, few_digits, file):
    datasets.prepare("drawn", tmp_path / "data")
    first = train(**brief(tmp_path))
    shutil.rmtree(Path(HOME, "storage"))  # or a colleague's Prefect, which has no results
    assert train(**brief(tmp_path)).run == first.run
    (first.run / file).write_bytes(b"damaged")
    shutil.rmtree(Path(HOME, "storage"))
    again = train(**brief(tmp_path))
    assert re.fullmatch("[0-9]{8}-[0-9]{6}-drawn-classic-seed0", again.run.name)
    assert train(**brief(tmp_path)) == again


def test_numpy_trains_in_the_pipeline_without_an_export(tmp_path, few_digits):
    state = pipeline(**small(tmp_path, engine="numpy", recipe="augmented"), return_state=True)
    done = state.result()
    assert done.exported is None
    assert runs.read_record(done.trained.run).engine == "numpy"
    assert f"  weights  {done.trained.weights}  (trained with NumPy)" in str(done)
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(state.state_details.flow_run_id).name
    assert name == "pipeline-drawn-numpy-seed0"


@pytest.fixture
def requested(tmp_path, monkeypatch):
    """What the pipeline would train, for the recipe "champion"; it trains nothing."""
    made = []

    def train_once(request, force):
        made.append(request)
        raise NnpipeError("enough")

    monkeypatch.setattr(flows.pipeline, "train_once", train_once)
    monkeypatch.setattr(flows.pipeline, "download_stage", lambda request: Downloaded())

    def training(**values):
        with pytest.raises(NnpipeError, match="enough"):
            pipeline(**small(tmp_path, recipe="champion", **values))
        return made.pop()

    return training


class Downloaded:
    dataset = "drawn"


@pytest.fixture
def champion(tmp_path, network, golden, metadata):
    def write(**changes):
        path = tmp_path / "weights" / "model_weights.npz"
        path.parent.mkdir(exist_ok=True)
        weights.save(path, network, metadata=replace(metadata, **changes), golden=golden)
        return path

    return write


def test_the_pipeline_trains_as_the_champion_was_trained(requested, champion, caplog):
    assert requested().recipe == "augmented"
    assert "there is no champion; the recipe is 'augmented'" in caplog.text
    champion(engine="torch", recipe="distilled")
    made = requested(engine="numpy", device="cpu", seed=3)
    assert (made.engine, made.recipe, made.device, made.seed) == ("torch", "distilled", "cpu", 3)
    assert "the champion was trained with torch, so this is, too" in caplog.text
    champion(engine="numpy", recipe="sgd")
    assert (requested().engine, requested().recipe) == ("numpy", None)


def test_a_champion_that_nnpipe_cannot_train_again_is_said_first(tmp_path, champion):
    path = champion(engine="torch", recipe="record")
    with pytest.raises(SettingError, match="was trained with the recipe 'record', which nnpipe"):
        pipeline(**small(tmp_path, recipe="champion"))
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="it is the champion") as caught:
        pipeline(**small(tmp_path, recipe="champion"))
    assert caught.value.advice == "rollback"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("day", "seed"),
    [
        (date(2026, 11, 28), 202648),
        (date(2026, 11, 29), 202649),  # a Sunday, when the weekly run is due
        (date(2026, 12, 5), 202649),
        (date(2026, 12, 27), 202653),
    ],
)
def test_the_seed_is_the_same_from_sunday_to_saturday(requested, monkeypatch, day, seed):
    monkeypatch.setattr(flows.pipeline, "date", SimpleNamespace(today=lambda: day))
    assert requested(seed=None).seed == seed
    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
    assert f"pipeline-drawn-champion-seed{seed}" in names


def test_the_code_version_is_that_of_the_files(tmp_path, monkeypatch):
    package = tmp_path / "nnpipe"
    shutil.copytree(ROOT / "nnpipe", package)
    monkeypatch.setattr(runs, "__file__", str(package / "runs.py"))
    before = runs.code_version.__wrapped__()
    assert before == runs.code_version()
    with open(package / "network.py", "a") as stream:
        stream.write("\n")
    assert runs.code_version.__wrapped__() != before


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MirrorError("no mirror"), "name another with 'mirror'"),
        (OutputError("disk full"), "then run it again to resume"),
        (WeightsError("damaged"), "if the champion is damaged"),
        (ScoringError("no such folder"), "check the source and the output"),
        (NnpipeError("something"), "fix the error above"),
        (ValueError("a bug"), "this is a bug"),
    ],
)
def test_a_run_that_failed_says_what_to_do(caplog, error, advice):
    @flow(name="failing", **HOOKS)
    def failing():
        raise error

    with caplog.at_level("ERROR"):
        failing(return_state=True)
    said = [record.message for record in caplog.records if "What to do" in record.message]
    assert len(said) == 1
    assert str(error) in said[0]
    assert advice in said[0]


@pytest.mark.parametrize(
    ("flow", "wrong"),
    [
        (download, {"dataset": "emnist"}),
        (train, {"epochs": "many"}),
        (train, {"seed": None}),
        (pipeline, {"recipe": "best"}),
        (score_folder, {"source": "in", "out": "out.csv", "workers": -1}),
    ],
    ids=lambda value: getattr(value, "name", None) or "-".join(value),
)
def test_a_wrong_parameter_is_no_bug(caplog, flow, wrong):
    with caplog.at_level("ERROR"):
        assert flow(**wrong, return_state=True).is_failed()
    said = [record.message for record in caplog.records if "What to do" in record.message]
    assert len(said) == 1
    assert list(wrong)[-1] in said[0]
    assert "choose another value for this parameter" in said[0]


def test_a_drawn_candidate_never_replaces_the_champion(tmp_path, few_digits):
    weights_dir = tmp_path / "weights"
    shutil.copytree(ROOT / "weights", weights_dir, ignore=shutil.ignore_patterns("runs", "former"))
    before = (weights_dir / "model_weights.npz").read_bytes()
    done = pipeline(**small(tmp_path, weights_dir=weights_dir, promote=True))
    assert not done.promoted.promoted
    assert [rule.name for rule in done.promoted.decision.rules if not rule.passed] == ["dataset"]
    assert "champion unchanged: it was trained on drawn" in str(done)
    assert (weights_dir / "model_weights.npz").read_bytes() == before


def test_a_server_that_is_not_there_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.export", "weights"],
        cwd=ROOT,
        env={
            **os.environ,
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "no Prefect server answers at http://127.0.0.1:9/api; start it" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_accuracy_below_what_is_expected_fails_the_run(tmp_path, few_digits):
    datasets.prepare("drawn", tmp_path / "data")
    given = {"dataset": "drawn", "data_dir": tmp_path / "data", "out": tmp_path / "report"}
    assert evaluate(**given, plots=False, at_least=0.5).accuracy > 0.5
    state = evaluate(**given, plots=False, at_least=1.0, return_state=True)
    assert state.is_failed()
    assert "digits were read right, expected at least 100.00%" in state.message
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize("share", [2, -0.1, float("nan")])
def test_an_impossible_accuracy_is_refused_before_the_evaluation(tmp_path, share, monkeypatch):
    monkeypatch.setattr(flows.evaluate, "evaluate_once", None)
    with pytest.raises(ParameterTypeError, match=r"at_least: Input should be (less|greater) "):
        evaluate(out=tmp_path / "report", at_least=share)


def test_a_report_that_is_stored_is_shown_again(tmp_path, few_digits):
    """As artifacts of each run, and made again if one of them is missing."""
    datasets.prepare("drawn", tmp_path / "data")
    given = {"dataset": "drawn", "data_dir": tmp_path / "data", "out": tmp_path / "report"}
    first = artifacts_of(evaluate(**given, return_state=True))
    assert {"evaluation", "per", "confusion"} == first.keys()
    for spoil in (lambda: None, (tmp_path / "report" / "plots" / "confusion.png").unlink):
        spoil()
        again = artifacts_of(evaluate(**given, return_state=True))
        assert {kind: shown["data"] for kind, shown in again.items()} == {
            kind: shown["data"] for kind, shown in first.items()
        }


def test_a_promotion_during_an_evaluation_leaves_one_champion_in_its_report(
    tmp_path, few_digits, champion, monkeypatch
):
    """Weights and champion are read several times; the result counts for what was measured."""
    datasets.prepare("drawn", tmp_path / "data")
    shutil.copy(champion(recipe="first"), tmp_path / "first.npz")
    measure, measured = report.measure, []

    def and_promote(*args, **kwargs):
        measured.append(measure(*args, **kwargs))
        champion(recipe="second")
        return measured[-1]

    monkeypatch.setattr(report, "measure", and_promote)
    where = {"data_dir": tmp_path / "data", "weights_dir": tmp_path / "weights"}
    given = {**where, "out": tmp_path / "report", "plots": False}

    def recipe():
        evaluate(**given)
        return json.loads((tmp_path / "report" / "metrics.json").read_text())["about"]["recipe"]

    assert recipe() == "second"
    assert len(measured) == 2
    shutil.copy(tmp_path / "first.npz", tmp_path / "weights" / "model_weights.npz")
    monkeypatch.setattr(report, "measure", measure)
    assert recipe() == "first"


class Harmful:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def quick_training(monkeypatch):
    """A stage `train` that trains nothing; the list counts its calls."""
    calls = []

    def train(folder, request, **calls_back):
        calls.append(request)
        weights = folder / runs.WEIGHTS_FILE
        weights.write_bytes(b"weights")
        for name in (runs.MODEL, runs.RECORD):
            shutil.copy(ROOT / "weights" / name, folder)
        return stages.Trained(folder, weights, weights, 1, 0.9, 1.0, sha256(b"weights"))

    monkeypatch.setattr(stages, "train", train)
    monkeypatch.setattr(datasets, "load", lambda name, folder: SimpleNamespace(checksum="0"))
    return calls


def states_of(flow_name):
    """The names of the states of all task runs, from the server, with those of the flow's runs."""
    with get_client(sync_client=True) as client:
        return [run.state.name for run in client.read_task_runs() if run.name.startswith(flow_name)]


def test_a_stage_is_done_once_for_the_same_content_and_its_run_is_cached(tmp_path, quick_training):
    given = {"weights_dir": tmp_path / "weights", "data_dir": tmp_path}
    first = train(**given)
    assert train(**given) == first
    assert len(quick_training) == 1
    for _ in range(300):
        if "Cached" in states_of("train"):
            break
        time.sleep(0.1)
    assert "Cached" in states_of("train")
    assert train(**given, force=True).run != first.run
    assert len(quick_training) == 2


class Value:
    """A setting of Prefect."""

    def __init__(self, path):
        self.value = lambda: path


class Plain:
    """A task without Prefect."""

    name = "train"

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, *args, **kwargs):
        return self.fn(*args, **kwargs)


def stored():
    return [path for path in Path(HOME, "storage").rglob("*") if path.is_file()]


def test_a_pickle_in_the_shared_storage_is_never_loaded(tmp_path, quick_training, caplog):
    """Under the name of every result, as a record that names its own serializer."""
    given = {"weights_dir": tmp_path / "weights", "data_dir": tmp_path}
    first = train(**given)
    assert stored()
    for number, path in enumerate(stored()):
        for key in (path, path.parent.parent / path.stem, path.parent / path.stem):
            record = ResultRecord(
                result=Harmful(tmp_path / f"harm-{number}"),
                metadata={"storage_key": str(key), "serializer": {"type": "pickle"}},
            )
            key.write_bytes(record.serialize())
    assert train(**given) == first
    assert not list(tmp_path.glob("harm*"))
    assert len(quick_training) == 2  # it was made again
    assert "ignored, because it is not a result of nnpipe" in caplog.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to(path)),
        lambda path: path.write_text(path.read_text().replace("0.9", "NaN")),
        lambda path: path.write_text("[" * 100_000),
    ],
    ids=["pipe", "folder", "loop", "NaN", "depth"],
)
def test_a_result_that_is_damaged_is_made_again(tmp_path, quick_training, monkeypatch, spoil):
    """Called without Prefect's server, which has no part in it."""
    monkeypatch.setattr(flows.caching, "PREFECT_LOCAL_STORAGE_PATH", Value(tmp_path / "storage"))
    kept = tmp_path / "run"
    kept.mkdir()

    def stage(request: TrainRequest) -> stages.Trained:
        return stages.train(kept, request, on_epoch=None)

    def once():
        return flows.caching.once(
            Plain(stage),
            TrainRequest(),
            inputs=asdict,
            outputs=lambda done: {done.weights: done.sha256},
        )

    once()
    (path,) = (tmp_path / "storage").rglob("*.json")
    spoil(path)
    assert once().run == kept
    assert len(quick_training) == 2


class Bar:
    """The server's side of a progress bar; it may take long to answer."""

    def __init__(self, monkeypatch):
        self.shares, self.goes_on = [], threading.Event()
        self.goes_on.set()
        monkeypatch.setattr(flows.interface, "create_progress_artifact", self.create)
        monkeypatch.setattr(flows.interface, "update_progress_artifact", self.update)

    def create(self, share, description):
        self.update(None, share)
        return "bar"

    def update(self, artifact, share):
        self.goes_on.wait(30)
        self.shares.append(share)


def test_a_progress_bar_shows_the_latest_share_about_once_a_second(monkeypatch):
    bar = Bar(monkeypatch)
    with Progress("work") as progress:
        for step in range(250):
            progress.show(step / 250)
            time.sleep(0.01)
        progress.show(1)
    assert bar.shares[0] == 0
    assert bar.shares[-1] == 100
    assert bar.shares == sorted(bar.shares)
    assert 3 <= len(bar.shares) <= 5


def test_a_progress_bar_does_not_hold_up_the_work(monkeypatch):
    bar = Bar(monkeypatch)
    bar.goes_on.clear()
    start = time.monotonic()
    with Progress("work") as progress:
        progress.show(0.5)
    assert time.monotonic() - start < 5
    bar.goes_on.set()


def test_a_progress_bar_that_fails_does_not_fail_the_work(monkeypatch, caplog):
    def fail(*anything, **named):
        raise OSError("no server")

    monkeypatch.setattr(flows.interface, "create_progress_artifact", fail)
    with Progress("work") as progress:
        progress.show(0.5)
    assert "not shown on Prefect's page: no server" in caplog.text


@pytest.mark.parametrize(
    ("deployment", "about", "key"),
    [
        ("inbox", "s3://a/b", "scores-inbox"),
        ("Über/../<b>", "in", "scores-ber-b"),
        (None, "my scans/2026", "scores-score-folder-my-scans-2026"),
        (None, "\n" + "x" * 500, "scores-score-folder-" + "x" * 180),
    ],
)
def test_each_deployment_has_artifacts_of_its_own(monkeypatch, deployment, about, key):
    monkeypatch.setattr(flows.interface, "deployment", SimpleNamespace(name=deployment))
    monkeypatch.setattr(flows.interface, "flow_run", SimpleNamespace(flow_name="score-folder"))
    assert artifact_key("scores", about) == key


def test_a_run_that_was_cancelled_says_how_to_go_on(caplog):
    (hook,) = HOOKS["on_cancellation"]
    run = FlowRun(name="score-inbox", flow_id=uuid4())
    hook(flow=score_folder, flow_run=run, state=None)
    assert "score-inbox was cancelled. To go on, run it again" in caplog.text
