"""What happens to the deployments in production: power cuts, restarts, drift, a team's server."""

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.error
from contextlib import closing, suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT
from .make_samples import SAMPLES
from .site import FINAL, Site, free_port, replace, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc"),
]

ZOMBIE = 75
"""Seconds without a sign of life after which a run is Crashed here; signs come every 30 seconds."""

SETTLE = 3
"""Seconds after which a file in the inbox counts as complete here."""

MANY = 20_000
"""Pictures that nobody scores to the end."""

SOME = 5000
"""Pictures that a run scores in half a minute."""

STOPPING = [
    shlex.split(line, comments=True)
    for line in re.findall(
        "(?m)^prefect (?:work-pool|flow-run) .*", (ROOT / "docs" / "scheduling.md").read_text()
    )
]
"""The commands of docs/scheduling.md to stop and to go on."""

SAVE_BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
block = CustomWebhookNotificationBlock(
    name="test", url="{url}", json_data={{"text": "{{{{subject}}}}\\n{{{{body}}}}"}}
)
block.save("test")
"""


class Receiver(BaseHTTPRequestHandler):
    """Keeps the texts that are posted to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.texts.append(json.loads(body)["text"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def texts():
    """The notifications that have arrived; the URL is that of their receiver."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.texts = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def notified(texts, *words):
    """Wait for a notification with these words."""

    def arrived():
        return next((t for t in texts.texts if all(word in t for word in words)), None)

    return until(f"a notification with {words}", arrived, 60)


@pytest.fixture(scope="module")
def site(tmp_path_factory, mnist_files, texts):
    """The server has the settings that README names, and all automations."""
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"(?m)^prefect config set((?:.*\\\n)*.*)", readme)
    settings = dict(word.split("=", 1) for word in shlex.split(command.replace("\\\n", " ")))
    settings.pop("PREFECT_API_URL")
    site = Site(tmp_path_factory.mktemp("site"), mnist_files.as_uri(), **settings)
    replace(site.folder / "automations.yaml", **{"within: 300": f"within: {ZOMBIE}"})
    endless = "epochs: 100000\n      recipe: classic"
    words = {
        '"*/15 * * * *"': '"0 0 1 1 *"',  # only by hand
        "recipe: champion": endless,
        "settle: 30": f"settle: {SETTLE}",
    }
    replace(site.folder / "prefect.yaml", **words)
    (site.folder / "inbox").mkdir()
    try:
        site.start_server()
        site.deploy()
        url = f"http://127.0.0.1:{texts.server_port}"
        made = site.python("-c", SAVE_BLOCK.format(url=url))
        assert made.returncode == 0, made.stderr
        for done in ("created", "updated"):  # the command may be run again
            put = site.run("flows.automations", "--notify", "custom-webhook/test")
            assert put.returncode == 0, put.stderr
            assert put.stdout.count(done) == 7
        names = [automation["name"] for automation in site.ask("automations/filter", limit=50)]
        assert len(names) == 8  # and the trigger of after-promotion
        site.start_worker()
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def many(site):
    """A folder with more pictures than a run will score."""
    folder = site.folder / "many"
    folder.mkdir()
    picture = shutil.copy(SAMPLES / "3-large.jpg", folder)
    for number in range(MANY):
        os.link(picture, folder / f"{number}.jpg")
    return "many"


def test_what_is_wrong_with_automations_is_said_in_one_sentence(site):
    file = site.folder / "automations.yaml"
    right = file.read_text()
    for text, options, words in (
        (right, ["--notify", "slack-webhook/nobody"], "slack-webhook/nobody is not on the server"),
        (right.replace("weekly-again", "monthly"), [], "pipeline/monthly is not on the server"),
        (right.replace("Proactive", "Lazy"), [], "nnpipe zombies: trigger.event.posture: Input"),
        ("- a list", [], "expected a list 'automations'"),
        ("automations: [", [], "automations.yaml: while parsing"),
    ):
        file.write_text(text)
        put = site.run("flows.automations", *options)
        assert put.returncode == 1
        assert words in put.stderr
        assert put.stderr.count("\n") == 1
    file.write_text(right)
    put = site.run("flows.automations", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert put.stderr == "no Prefect server answers at http://127.0.0.1:9/api\n"


def scoring(site, deployment, source, out):
    """A run that scores for minutes, after its first sign of life."""
    run = site.started(deployment, source=source, out=out, workers=1, incremental=False, settle=0)
    assert site.state(run)["type"] == "RUNNING", site.state(run)["message"]
    until("a sign of life", lambda: signs(site, run), 30)
    return run


def signs(site, run):
    return [e for e in site.events("prefect.flow-run.heartbeat") if run in str(e["resource"])]


@pytest.fixture(scope="module")
def left_behind(site, many):
    """A run whose process has ended with its worker, and the time when that must be noticed."""
    run = scoring(site, "score-folder/inbox", many, "reports/stopped.csv")
    end = time.monotonic() + ZOMBIE + 20
    assert site.end("worker", signal.SIGTERM) == 0
    site.start_worker()
    return run, end


def test_a_worker_that_is_stopped_ends_its_run_without_a_word(site, left_behind):
    run, _ = left_behind
    assert not site.pids(run)
    assert site.state(run)["type"] == "RUNNING"
    next_one = site.started("score-folder/inbox")
    assert site.state(next_one)["type"] == "CANCELLED"


def test_a_weekly_run_that_crashes_runs_again_once(site):
    by_hand = site.started("pipeline/weekly")
    kill(site, by_hand)
    first = site.started("pipeline/weekly", tags=["nnpipe", "auto-scheduled"])
    kill(site, first)
    assert site.ended(first, 60)["type"] == "CRASHED"
    (again,) = until("the run that replaces it", lambda: runs_of(site, "pipeline/weekly-again"), 30)
    until("its start", lambda: site.state(again)["type"] == "RUNNING", 60)
    kill(site, again)
    assert site.ended(again, 60)["type"] == "CRASHED"
    time.sleep(10)  # the first one was replaced sooner
    assert set(runs_of(site, "pipeline/weekly")) == {by_hand, first}
    assert runs_of(site, "pipeline/weekly-again") == [again]


def runs_of(site, deployment):
    deployed = site.ask(f"deployments/name/{deployment}")["id"]
    found = site.ask("flow_runs/filter", deployments={"id": {"any_": [deployed]}})
    return [run["id"] for run in found if not run["auto_scheduled"]]


def kill(site, run):
    for pid in site.pids(run):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_cancelled_run_is_gone_within_seconds(site, many):
    run = scoring(site, "score-folder/ad-hoc", many, "reports/cancelled.csv")
    site.ask(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    start = time.monotonic()
    until("the end of its processes", lambda: not site.pids(run), 5)
    until("the state", lambda: site.state(run)["type"] == "CANCELLED", 10)
    assert time.monotonic() - start < 10  # 2 and 7 seconds were measured


def test_what_it_left_behind_is_crashed_and_its_slot_is_free(site, texts, left_behind):
    run, end = left_behind
    state = site.ended(run, max(5, end - time.monotonic()))
    assert state["type"] == "CRASHED"
    assert "no sign of life" in state["message"]
    notified(texts, "score-many: Crashed", "no sign of life", f"runs/flow-run/{run}")
    site.completed(site.create("score-folder/inbox"))


def test_an_empty_inbox_is_no_failure(site):
    """What nnpipe logs meanwhile is in the log of the run, too."""
    run = site.create("score-folder/inbox", out="reports/empty.csv")
    site.completed(run)
    assert len((site.folder / "reports/empty.csv").read_text().splitlines()) == 1
    until("nnpipe's line", lambda: "every file is scored" in site.logs_of(run), 30)


def test_a_file_that_is_still_being_written_waits_for_the_next_run(site):
    photo = site.folder / "inbox" / "6.jpg"
    whole, table = (SAMPLES / "6-photo.jpg").read_bytes(), site.folder / "reports" / "inbox.csv"
    first = site.create("score-folder/inbox")
    while site.state(first)["type"] not in FINAL:
        photo.write_bytes(whole[: len(whole) // 2])
        time.sleep(0.5)
    site.completed(first)
    assert "6.jpg" not in table.read_text()
    photo.write_bytes(whole)
    time.sleep(SETTLE)
    site.completed(site.create("score-folder/inbox"))
    assert "6.jpg,1,,ok,6" in table.read_text()


def test_people_are_told_of_failures_and_drift(site, texts):
    failed = site.create("evaluate/nightly", plots=False, weights="nowhere.npz")
    assert site.ended(failed, 120)["type"] == "FAILED"
    notified(texts, "evaluate/nightly", "nowhere.npz", f"runs/flow-run/{failed}")

    for number in range(300):  # pictures of a single digit
        shutil.copy(SAMPLES / "6-photo.jpg", site.folder / "inbox" / f"{number}.jpg")
    # The same pictures do not matter elsewhere.
    site.completed(site.create("score-folder/ad-hoc", source="inbox", out="reports/other.csv"))
    run = site.create("score-folder/inbox", settle=0)
    site.completed(run)
    notified(texts, "reports/inbox.csv: drift", "labels: PSI", f"runs/flow-run/{run}")
    assert not any("reports/other.csv" in text for text in texts.texts)


WEEKLY = {"engine": "numpy", "recipe": "augmented", "epochs": 3, "source": "samples/*.jpg"}
"""A training from scratch that takes seconds."""


def test_what_was_rolled_back_is_not_promoted_again(site, texts):
    """The champion is weak here, so that the training from scratch beats it."""
    own = site.folder / "weights"
    assert site.run("nnpipe.cli", "download", "--dataset", "mnist").returncode == 0
    weak = ("--epochs", "1", "--lr", "0.0003", "--run", "weak")
    trained = site.run("flows.train", "--engine", "numpy", *weak)
    assert trained.returncode == 0, trained.stderr
    for path in own.glob("*.*"):
        path.unlink()
    for path in (own / "runs" / "weak").iterdir():
        shutil.copy(path, own)
    champion = own / "model_weights.npz"
    before = champion.read_bytes()

    site.completed(site.create("pipeline/weekly", **WEEKLY))
    assert champion.read_bytes() != before
    notified(texts, "of the same digits, half as they are")
    site.completed(site.create("rollback/champion"))
    assert champion.read_bytes() == before
    notified(texts, "a person brought it back")
    again = site.create("pipeline/weekly", **WEEKLY)
    site.completed(again)
    assert champion.read_bytes() == before
    until("the reason", lambda: "rolled back" in site.logs_of(again), 30)


def test_what_a_power_cut_of_a_day_leaves_behind_is_crashed(site, many):
    run = scoring(site, "score-folder/inbox", many, "reports/cut.csv")
    waiting = site.create("score-folder/ad-hoc", source=many, out="reports/pending.csv")
    until("a run that is taken", lambda: site.state(waiting)["type"] == "PENDING", 60)
    site.cut_the_power()
    a_day_passes(site)
    site.start_server()
    site.start_worker()
    assert "no sign of life" in site.ended(run, 60)["message"]
    assert "has not started" in site.ended(waiting, 60)["message"]
    site.completed(site.create("score-folder/inbox"))


def a_day_passes(site):
    """Move the server's memory of what it waits for into the past."""
    with closing(sqlite3.connect(site.logs / "prefect" / "prefect.db")) as base, base:
        rows = base.execute('SELECT id, start, "end" FROM automation_bucket').fetchall()
        assert rows
        for key, *times in rows:
            earlier = [str(datetime.fromisoformat(t) - timedelta(days=1)) for t in times]
            base.execute(
                'UPDATE automation_bucket SET start = ?, "end" = ? WHERE id = ?', (*earlier, key)
            )


def test_no_run_is_harmed_by_a_restart_of_the_server_or_by_the_right_way_to_stop(site):
    """The right way is that of docs/scheduling.md."""
    folder = site.folder / "some"
    folder.mkdir()
    for number in range(SOME):
        os.link(SAMPLES / "3-large.jpg", folder / f"{number}.jpg")
    run = scoring(site, "score-folder/inbox", "some", "reports/some.csv")
    site.stop("server", 30)
    time.sleep(8)  # tasks of the run start and end meanwhile
    site.start_server()
    assert site.state(run)["type"] == "RUNNING"

    pause, listing, resume = STOPPING
    assert site.run(*pause).returncode == 0
    try:
        waiting = site.create("score-folder/ad-hoc", source="samples", out="reports/waiting.csv")
        until("the end", lambda: "No flow runs found" in site.run(*listing).stdout, 120)
        site.completed(run, 1)
        assert len((site.folder / "reports/some.csv").read_text().splitlines()) == 1 + SOME
        assert site.state(waiting)["type"] == "SCHEDULED"
        assert site.end("worker", signal.SIGINT) == 0
        site.end("server", signal.SIGTERM)
        assert not site.pids()
        site.start_server()
        site.start_worker()
    finally:
        assert site.run(*resume).returncode == 0
    site.completed(waiting)


# --- a team ---------------------------------------------------------------------------------------


def git(folder, *arguments):
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def shared(site):
    """The shared folder of a team whose code comes from git, as docs/team/prefect.yaml has it."""
    shared, bare = site.logs / "shared", site.logs / "nnpipe.git"
    (shared / "inbox").mkdir(parents=True)
    words = {"https://git.example.com/team/nnpipe.git": bare.as_uri(), "/srv/nnpipe": str(shared)}
    replace(site.folder / "docs" / "team" / "prefect.yaml", **words)
    with open(site.folder / "flows" / "score.py", "a") as code:
        code.write("\nimport nnpipe\n\nprint('nnpipe is', nnpipe.__file__)\n")
    git(site.folder, "init", "--initial-branch", "main")
    git(site.folder, "add", "--all")
    git(site.folder, "commit", "--message", "A version")
    git(site.folder, "clone", "--bare", ".", str(bare))
    file = ("--prefect-file", "docs/team/prefect.yaml")
    deployed = site.run("prefect", "--no-prompt", "deploy", "--all", *file)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    site.stop("worker")
    del site.environment["PYTHONPATH"]
    site.start_worker()
    site.environment["PYTHONPATH"] = str(site.folder)
    return shared


def test_each_run_has_a_clone_of_its_own(site, shared):
    (shared / "weights").mkdir()
    for name in ("model_weights.npz", "pytorch_model.pth", "training.json"):
        shutil.copy(ROOT / "weights" / name, shared / "weights")
    shutil.copy(SAMPLES / "6-photo.jpg", shared / "inbox")
    site.completed(site.create("score-folder/inbox", settle=0))
    assert "6-photo.jpg,1,,ok,6" in (shared / "reports" / "inbox.csv").read_text()
    (where,) = re.findall("nnpipe is (.*)", (site.logs / "worker.log").read_text())
    assert where.endswith("nnpipe-main/nnpipe/__init__.py")
    until("its removal", lambda: not Path(where).exists(), 30)
    data = ("--data-dir", str(shared / "data"))
    assert site.run("nnpipe.cli", "download", "--dataset", "mnist", *data).returncode == 0
    site.completed(site.create("evaluate/nightly", plots=False))
    assert (shared / "reports" / "nightly" / "report.html").exists()


def test_the_teams_deployments_are_those_of_one_machine():
    one, team = (
        yaml.safe_load((ROOT / path).read_text())["deployments"]
        for path in ("prefect.yaml", "docs/team/prefect.yaml")
    )
    same = "name", "entrypoint", "tags", "concurrency_limit", "triggers", "work_pool", "schedules"
    assert [{key: d.get(key) for key in same} for d in one] == [
        {key: d.get(key) for key in same} for d in team
    ]
    paths = {"source", "form", "weights", "out", "weights_dir", "data_dir", "reports_dir"}
    for ours, theirs in zip(one, team, strict=True):
        ours, theirs = (d.get("parameters", {}) for d in (ours, theirs))
        assert {n: ours[n] for n in ours.keys() - paths} == {
            n: theirs[n] for n in theirs.keys() - paths
        }


@pytest.fixture(scope="module")
def postgres():
    """The URL of an empty database on a PostgreSQL of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not shutil.which("runuser") or os.geteuid():
        pytest.skip("needs Debian's postgresql, and root to start it as the user postgres")
    programs, port = found[-1].parent, str(free_port())
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, "postgres")

        def postgres(program, *arguments):
            command = ["runuser", "-u", "postgres", "--", str(programs / program), *arguments]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)

        data = ("-D", f"{folder}/data", "-l", f"{folder}/log", "-w")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        postgres("initdb", *data[:2], "--auth", "trust", "--username", "prefect")
        postgres("pg_ctl", *data, "-o", options, "start")
        try:
            postgres("createdb", "-h", "127.0.0.1", "-p", port, "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            postgres("pg_ctl", *data, "-m", "immediate", "stop")


def test_a_teams_server_runs_on_postgresql_with_a_password(tmp_path, mnist_files, postgres):
    """With the settings of docs/team, a run on schedule completes."""
    files = [ROOT / "docs" / "team" / name for name in ("nnpipe.env", "nnpipe-server.env")]
    lines = [line for file in files for line in file.read_text().splitlines()]
    settings = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    settings |= {"PREFECT_API_DATABASE_CONNECTION_URL": postgres}
    for name in ("PREFECT_API_URL", "NNPIPE_MNIST_MIRROR"):
        del settings[name]
    site = Site(tmp_path, mnist_files.as_uri(), **settings)
    replace(site.folder / "prefect.yaml", **{'cron: "*/15 * * * *"': "interval: 20"})
    (site.folder / "inbox").mkdir()
    try:
        site.start_server()
        password = site.environment.pop("PREFECT_API_AUTH_STRING")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            site.ask("deployments/filter", limit=1)
        site.environment["PREFECT_API_AUTH_STRING"] = password
        site.deploy()
        site.start_worker()
        until(
            "a scheduled run",
            lambda: [r for r in site.runs("COMPLETED") if r["auto_scheduled"]],
            90,
        )
    finally:
        site.close()
