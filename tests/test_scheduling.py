"""The deployments on a server and a worker that are really running, on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnpipe import weights
from nnpipe.datasets import drawn

from .conftest import copy_of_the_project
from .make_samples import SAMPLES

pytestmark = pytest.mark.slow

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PICTURES = 3000


def until(what, found, seconds):
    """Wait for something to be there, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")


class Site:
    """A clone of the project, a server, and a worker that may be stopped and started."""

    def __init__(self, folder: Path, mirror: str) -> None:
        self.folder = folder / "clone"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NNPIPE_MNIST_MIRROR": mirror,
            "PYTHONPATH": str(self.folder),  # its own nnpipe, and so its own champion
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs = folder

    def start(self, name, *arguments):
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, name):
        """A worker may take minutes over SIGTERM, so it is ended, and what it has started."""
        process = self.processes.pop(name)
        for how, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 30)):
            try:
                os.killpg(process.pid, how)
                process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def start_worker(self):
        self.start("worker", "worker", "start", "--pool", "nnpipe", "--type", "process")

    def run(self, *command, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, path, **body):
        request = urllib.request.Request(  # noqa: S310 (it is the server's own address)
            f"{self.api}/{path}",
            json.dumps(body).encode() if body else None,
            {"Content-Type": "application/json"},
        )
        for again in range(10):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                # SQLite was locked for too long; Prefect's own client tries again, too.
                if error.code != 503 or again == 9:
                    raise
                time.sleep(1)
        return None

    def is_healthy(self):
        try:
            return self.ask("health")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def create(self, deployment, **parameters):
        found = self.ask(f"deployments/name/{deployment}")
        made = self.ask(f"deployments/{found['id']}/create_flow_run", parameters=parameters)
        return made["id"]

    def admitted(self, deployment, **parameters):
        """A run that was let in: where one at a time is allowed, others may be before it."""

        def start():
            run = self.create(deployment, **parameters)
            until("a start", lambda: self.state(run)["type"] in FINAL | {"RUNNING"}, 120)
            return run if self.state(run)["type"] != "CANCELLED" else None

        return until("a run that is let in", start, 240)

    def state(self, flow_run):
        return self.ask(f"flow_runs/{flow_run}")["state"]

    def ended(self, flow_run, seconds):
        def final():
            state = self.state(flow_run)
            return state if state["type"] in FINAL else None

        return until(f"flow run {flow_run}", final, seconds)

    def completed(self, flow_run, seconds=240):
        state = self.ended(flow_run, seconds)
        assert state["type"] == "COMPLETED", state["message"]

    def task_runs(self, flow_run):
        wanted = {"flow_runs": {"id": {"any_": [flow_run]}}}
        return self.ask("task_runs/filter", **wanted)

    def events(self, name):
        wanted = {"filter": {"event": {"prefix": [name]}}}
        return self.ask("events/filter", **wanted)["events"]

    def logs_of(self, flow_run):
        wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}}
        return "\n".join(line["message"] for line in self.ask("logs/filter", **wanted))


@pytest.fixture(scope="module")
def site(tmp_path_factory, mnist_files):
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder, mnist_files.as_uri())
    copy_of_the_project(site.folder)
    settings = site.folder / "prefect.yaml"
    text = settings.read_text()
    assert text.count("interval: 900") == 1
    settings.write_text(text.replace("interval: 900", "interval: 20"))
    inbox = site.folder / "inbox"
    inbox.mkdir()
    for name in ("6-photo.jpg", "3-dark-on-light.png"):
        shutil.copy(SAMPLES / name, inbox)
    try:
        site.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(site.port))
        until("the server", site.is_healthy, 180)
        made = site.run("prefect", "work-pool", "create", "nnpipe", "--type", "process")
        assert made.returncode == 0, made.stderr
        deployed = site.run("prefect", "--no-prompt", "deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        site.start_worker()
        yield site
    finally:
        for name in list(site.processes)[::-1]:  # the worker before the server
            site.stop(name)


def test_all_deployments_are_there_with_their_schedules(site):
    found = {d["name"]: d for d in site.ask("deployments/filter", limit=20)}
    assert set(found) == {"weekly", "inbox", "nightly", "promoted"}
    assert all(d["enforce_parameter_schema"] for d in found.values())
    assert found["weekly"]["parameters"]["dataset"] == "mnist"
    assert found["weekly"]["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    assert found["inbox"]["global_concurrency_limit"]["limit"] == 1
    assert found["inbox"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_a_scheduled_run_completes_by_itself(site):
    def scheduled():
        runs = site.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
        return [run for run in runs if run["auto_scheduled"]]

    (run, *_) = until("a scheduled run", scheduled, 180)
    assert run["name"] == "score-inbox"
    rows = (site.folder / "reports" / "inbox.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["3-dark-on-light.png", "ok", "3"],
        ["6-photo.jpg", "ok", "6"],
    ]


SMALL = {"recipe": "classic", "epochs": 2, "promote": True}


def test_a_run_by_hand_leaves_its_files_artifacts_and_events_and_is_not_repeated(site):
    champion = (site.folder / "weights" / "model_weights.npz").read_bytes()
    first = site.create("pipeline/weekly", **SMALL)
    site.completed(first)
    (run,) = (site.folder / "weights" / "runs").iterdir()
    assert (run / "model_weights.npz").exists()
    report = site.folder / "reports" / run.name
    assert (report / "report.html").exists()
    assert (report / "scores.csv").exists()
    # Two epochs of a plain recipe are worse, so the champion stays.
    assert (site.folder / "weights" / "model_weights.npz").read_bytes() == champion
    kinds = {
        artifact["key"]: artifact["type"] for artifact in site.ask("artifacts/filter", limit=99)
    }
    assert kinds["evaluation"] == "markdown"
    assert kinds["per-class"] == kinds["promotion"] == "table"
    assert kinds["confusion"] == "image"
    assert kinds["scores"] == "markdown"
    assert "report" in kinds
    assert "progress" in kinds.values()
    until(
        "the assets",
        lambda: (
            {event["resource"]["prefect.resource.id"] for event in site.events("prefect.asset.mat")}
            >= {"nnpipe://data", "nnpipe://model", "nnpipe://weights", "nnpipe://report"}
        ),
        30,
    )
    assert site.events("nnpipe.model.promoted") == []
    until("the rule that was not met", lambda: "NOT MET" in site.logs_of(first), 30)

    again = site.create("pipeline/weekly", **SMALL)
    site.completed(again)
    assert [path.name for path in (site.folder / "weights" / "runs").iterdir()] == [run.name]

    def states():
        found = {task["name"]: task["state"]["name"] for task in site.task_runs(again)}
        cached = {name.split("-")[0] for name, state in found.items() if state == "Cached"}
        return cached >= {"train", "export", "evaluate"}

    until("cached stages", states, 30)


def test_a_promotion_starts_what_waits_for_it(site):
    own = site.folder / "weights"
    candidate = own / "runs" / "candidate"
    candidate.mkdir(parents=True)
    for name in ("pytorch_model.pth", "training.json"):
        shutil.copy(own / name, candidate)
    network, metadata = weights.load(own / "model_weights.npz")
    golden = drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1)
    weights.save(
        candidate / "model_weights.npz",
        network,
        metadata=replace(metadata, recipe="as-good"),
        golden=golden,
    )
    before = (own / "model_weights.npz").read_bytes()

    promoted = site.run("flows.promote", "weights/runs/candidate")
    assert promoted.returncode == 0, promoted.stderr
    assert (own / "model_weights.npz").read_bytes() == (
        candidate / "model_weights.npz"
    ).read_bytes()

    def triggered():
        runs = site.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
        return [run for run in runs if run["name"].startswith("after-promotion-of")]

    (run,) = until("the deployment that waits for a promotion", triggered, 120)
    assert run["parameters"]["model"].startswith("nnpipe.model.")
    assert (site.folder / "reports" / "promoted" / "report.html").exists()
    assert (site.folder / "reports" / "promoted" / "scores.csv").exists()

    assert site.run("nnpipe.cli", "models", "rollback").returncode == 0
    assert (own / "model_weights.npz").read_bytes() == before


def test_a_parameter_of_the_wrong_type_is_refused(site):
    found = site.run("prefect", "deployment", "run", "pipeline/weekly", "-p", "epochs=many")
    assert found.returncode != 0
    assert "epochs" in found.stdout + found.stderr
    with pytest.raises(urllib.error.HTTPError, match="409"):
        site.create("pipeline/weekly", recipe="best")


def test_a_mirror_that_is_down_is_tried_again_and_then_said(site):
    run = site.create("pipeline/weekly", mirror="file:///nowhere/", data_dir="elsewhere")
    state = site.ended(run, 180)
    assert state["type"] == "FAILED"
    assert "could not be downloaded" in state["message"]
    advice = "What to do: name another with 'mirror'"
    until("advice", lambda: advice in site.logs_of(run), 30)
    assert site.logs_of(run).count("Retry") >= 2


def test_bad_input_is_said_in_the_state(site):
    broken = site.folder / "broken.npz"
    broken.write_bytes(b"PK\3\4 nothing")
    (site.folder / "empty").mkdir()
    for parameters, words in (
        ({"weights": str(broken)}, "is not a whole .npz file"),
        ({"source": "no-such-folder"}, "no-such-folder: "),
        ({"source": "empty"}, "empty: "),
        ({"out": "prefect.yaml/scores.csv"}, "could not be written"),
    ):
        run = site.admitted("score-folder/inbox", **{"out": "reports/none.csv", **parameters})
        state = site.ended(run, 120)
        assert state["type"] == "FAILED"
        assert words in state["message"]


def process_of(flow_run):
    """The id of the process that a worker has started for a run."""
    for entry in Path("/proc").iterdir():
        try:
            if flow_run.encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
def test_a_run_killed_while_it_scores_is_finished_by_the_next(site):
    scans = site.folder / "scans"
    scans.mkdir()
    photo = Image.open(SAMPLES / "3-dark-on-light.png").convert("L")
    for number in range(PICTURES):
        photo.rotate(number % 7 - 3, fillcolor=255).save(scans / f"{number:05}.png")
    parameters = {"source": "scans", "out": "reports/scans.csv", "workers": 1, "incremental": False}
    run = site.admitted("score-folder/inbox", **parameters)
    state = site.folder / "reports" / "scans.csv.nnpipe"
    until("a first shard", lambda: list(state.rglob("0*.json")), 120)
    process = process_of(run)
    assert process
    os.kill(process, signal.SIGKILL)
    assert site.ended(run, 120)["type"] == "CRASHED"
    assert not (site.folder / "reports" / "scans.csv").exists()
    until("advice", lambda: "Scoring resumes" in site.logs_of(run), 60)

    site.completed(site.admitted("score-folder/inbox", **parameters))
    rows = (site.folder / "reports" / "scans.csv").read_bytes()
    done = site.run("nnpipe.cli", "score", "scans", "--out", "plain.csv", timeout=240)
    assert done.returncode in (0, 3), done.stderr
    assert rows == (site.folder / "plain.csv").read_bytes()
    assert rows.count(b"\n") == PICTURES + 1


def test_a_worker_that_comes_back_does_what_has_waited(site):
    site.stop("worker")
    run = site.create("evaluate/nightly", plots=False)
    time.sleep(3)
    assert site.state(run)["type"] in ("SCHEDULED", "PENDING")
    site.start_worker()
    site.completed(run, 180)
    assert (site.folder / "reports" / "nightly" / "metrics.json").exists()
