"""The deployments on a server and a worker that are really running, on loopback."""

import os
import shutil
import signal
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnpipe import weights
from nnpipe.datasets import drawn
from nnpipe.network import Network

from .make_samples import SAMPLES
from .site import Site, replace, until

pytestmark = pytest.mark.slow

PICTURES = 3000


@pytest.fixture(scope="module")
def site(tmp_path_factory, mnist_files):
    site = Site(tmp_path_factory.mktemp("site"), mnist_files.as_uri())
    words = {'cron: "*/15 * * * *"': "interval: 20", "settle: 30": "settle: 0"}
    replace(site.folder / "prefect.yaml", **words)
    inbox = site.folder / "inbox"
    inbox.mkdir()
    for name in ("6-photo.jpg", "3-dark-on-light.png"):
        shutil.copy(SAMPLES / name, inbox)
    try:
        site.start_server()
        site.deploy()
        site.start_worker()
        yield site
    finally:
        site.close()


def test_all_deployments_are_there_with_their_schedules(site):
    found = {d["name"]: d for d in site.ask("deployments/filter", limit=20)}
    assert set(found) == {
        *("weekly", "weekly-again", "inbox", "ad-hoc", "forms", "nightly", "promoted", "champion")
    }
    assert all(d["enforce_parameter_schema"] and d["tags"] == ["nnpipe"] for d in found.values())
    assert found["weekly"]["parameters"]["dataset"] == "mnist"
    assert found["weekly"]["parameters"] == found["weekly-again"]["parameters"]
    assert found["weekly"]["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    assert found["weekly-again"]["schedules"] == found["ad-hoc"]["schedules"] == []
    assert not found["forms"]["schedules"][0]["active"]
    assert found["inbox"]["global_concurrency_limit"]["limit"] == 1
    assert found["inbox"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_a_scheduled_run_completes_by_itself(site):
    def scheduled():
        return [run for run in site.runs("COMPLETED") if run["auto_scheduled"]]

    (run, *_) = until("a scheduled run", scheduled, 180)
    assert run["name"] == "score-inbox"
    rows = (site.folder / "reports" / "inbox.csv").read_text().splitlines()
    assert [row.split(",")[:5] for row in rows[1:]] == [
        ["3-dark-on-light.png", "1", "", "ok", "3"],
        ["6-photo.jpg", "1", "", "ok", "6"],
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
    assert kinds["evaluation-weekly"] == kinds["scores-weekly"] == "markdown"
    assert kinds["per-class-weekly"] == "table"
    assert {kind for key, kind in kinds.items() if key and key.startswith("promotion")} == {"table"}
    assert kinds["confusion-weekly"] == "image"
    assert "progress" in kinds.values()
    assert site.events("nnpipe.model.promoted") == []
    until("the verdict", lambda: "not promoted; the champion stays" in site.logs_of(first), 30)

    again = site.create("pipeline/weekly", **SMALL)
    site.completed(again)
    assert [path.name for path in (site.folder / "weights" / "runs").iterdir()] == [run.name]

    def states():
        found = {task["name"]: task["state"]["name"] for task in site.task_runs(again)}
        cached = {name.split("-")[0] for name, state in found.items() if state == "Cached"}
        return cached >= {"train", "export", "evaluate"}

    until("cached stages", states, 30)


def noisy(network, share):
    """A network that reads worse: noise on its weights, as a share of their spread."""
    rng = np.random.default_rng(0)
    return Network(
        tuple(
            layer._replace(
                W=layer.W + rng.normal(0, share * layer.W.std(), layer.W.shape).astype(np.float32)
            )
            for layer in network.layers
        )
    )


def test_a_promotion_starts_what_waits_for_it(site):
    """The champion is made worse before."""
    own = site.folder / "weights"
    candidate = own / "runs" / "candidate"
    candidate.mkdir(parents=True)
    for name in ("pytorch_model.pth", "training.json"):
        shutil.move(own / name, candidate)  # they are not those of the worse one
    shutil.copy(own / "model_weights.npz", candidate)
    network, metadata = weights.load(own / "model_weights.npz")
    golden = drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1)
    weights.save(own / "model_weights.npz", noisy(network, 0.3), metadata=metadata, golden=golden)
    before = (own / "model_weights.npz").read_bytes()

    promoted = site.run("flows.promote", "weights/runs/candidate")
    assert promoted.returncode == 0, promoted.stderr
    assert (own / "model_weights.npz").read_bytes() == (
        candidate / "model_weights.npz"
    ).read_bytes()

    def triggered():
        return [r for r in site.runs("COMPLETED") if r["name"].startswith("after-promotion-of")]

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
        ({"source": "empty", "incremental": False}, "empty: "),
        ({"out": "prefect.yaml/scores.csv"}, "could not be written"),
    ):
        run = site.admitted("score-folder/inbox", **{"out": "reports/none.csv", **parameters})
        state = site.ended(run, 120)
        assert state["type"] == "FAILED"
        assert words in state["message"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
def test_a_run_killed_while_it_scores_is_finished_by_the_next(site):
    scans = site.folder / "scans"
    scans.mkdir()
    photo = Image.open(SAMPLES / "3-dark-on-light.png").convert("L")
    for number in range(PICTURES):
        photo.rotate(number % 7 - 3, fillcolor=255).save(scans / f"{number:05}.png")
    parameters = {"source": "scans", "out": "reports/scans.csv", "workers": 1}
    parameters["incremental"] = False
    run = site.admitted("score-folder/inbox", **parameters)
    state = site.folder / "reports" / "scans.csv.nnpipe"
    until("a first shard", lambda: list(state.rglob("0*.json")), 120)
    process, *_ = site.pids(run)
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
    run = site.create("evaluate/nightly", plots=False, at_least=0.9)  # the champion is a worse one
    time.sleep(3)
    assert site.state(run)["type"] in ("SCHEDULED", "PENDING")
    site.start_worker()
    site.completed(run, 180)
    assert (site.folder / "reports" / "nightly" / "metrics.json").exists()
