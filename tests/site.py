"""A copy of the project with a Prefect server and a worker of its own, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from .conftest import copy_of_the_project

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def until(what, found, seconds):
    """Wait for something to be there, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s")


def replace(path, **words):
    """Replace each word, which must be there, in a text file of a site."""
    text = path.read_text()
    for old, new in words.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Site:
    """A copy of the project, a server, and a worker; both may be stopped and started."""

    def __init__(self, folder: Path, mirror: str, **environment: str) -> None:
        self.folder = folder / "clone"
        self.logs = folder
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.mark = f"PREFECT_HOME={folder / 'prefect'}"  # in the environment of all its processes
        self.environment = {
            **os.environ,
            "HOME": str(folder / "home"),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NNPIPE_MNIST_MIRROR": mirror,
            "PYTHONPATH": str(self.folder),  # its own nnpipe, and so its own champion
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        copy_of_the_project(self.folder)

    # --- processes --------------------------------------------------------------------------------

    def start(self, name, *arguments):
        with open(self.logs / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # In the background a shell ignores Ctrl-C, and so does every process below it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def start_server(self):
        self.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        until("the server", self.is_healthy, 180)

    def start_worker(self):
        self.start("worker", "worker", "start", "--pool", "nnpipe", "--type", "process")

    def deploy(self):
        made = self.run(
            "prefect", "work-pool", "create", "nnpipe", "--type", "process", "--overwrite"
        )
        assert made.returncode == 0, made.stderr
        deployed = self.run("prefect", "--no-prompt", "deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    def stop(self, name, seconds=5):
        """A worker may take minutes over SIGTERM, so it is killed after some seconds."""
        process = self.processes.pop(name)
        for how, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 30)):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, how)
                process.wait(patience)
                return

    def end(self, name, how):
        """Send a process one signal, as a person would, and return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(how)
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise

    def pids(self, *words):
        """The ids of this site's processes whose environment has all these words."""
        wanted = [word.encode() for word in (self.mark, *words)]
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                environment = (entry / "environ").read_bytes()
                if all(word in environment for word in wanted):
                    found.append(int(entry.name))
        return sorted(found)

    def cut_the_power(self):
        """Kill the server, the worker and all that runs."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        for process in self.processes.values():
            process.wait(30)
        self.processes.clear()

    def close(self):
        for name in list(self.processes)[::-1]:  # the worker before the server
            self.stop(name)
        self.cut_the_power()

    def run(self, *command, timeout=120, **environment):
        return self.python("-m", *command, timeout=timeout, **environment)

    def python(self, *arguments, timeout=120, **environment):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    # --- what the server says ---------------------------------------------------------------------

    def ask(self, path, **body):
        headers = {"Content-Type": "application/json"}
        if password := self.environment.get("PREFECT_API_AUTH_STRING"):
            headers["Authorization"] = f"Basic {b64encode(password.encode()).decode()}"
        request = urllib.request.Request(  # noqa: S310 (it is the server's own address)
            f"{self.api}/{path}", json.dumps(body).encode() if body else None, headers
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

    def create(self, deployment, tags=(), **parameters):
        found = self.ask(f"deployments/name/{deployment}")
        wanted = {"parameters": parameters} | ({"tags": tags} if tags else {})
        made = self.ask(f"deployments/{found['id']}/create_flow_run", **wanted)
        return made["id"]

    def started(self, deployment, **parameters):
        """A run that has begun, or ended."""
        run = self.create(deployment, **parameters)
        until("a start", lambda: self.state(run)["type"] in FINAL | {"RUNNING"}, 120)
        return run

    def admitted(self, deployment, **parameters):
        """A run that was let in: where one at a time is allowed, others may be before it."""

        def start():
            run = self.started(deployment, **parameters)
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

    def runs(self, *types):
        """All runs in these states."""
        return self.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": list(types)}}})

    def task_runs(self, flow_run):
        wanted = {"flow_runs": {"id": {"any_": [flow_run]}}}
        return self.ask("task_runs/filter", **wanted)

    def events(self, name):
        wanted = {"filter": {"event": {"prefix": [name]}}}
        return self.ask("events/filter", **wanted)["events"]

    def logs_of(self, flow_run):
        wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}}
        return "\n".join(line["message"] for line in self.ask("logs/filter", **wanted))
