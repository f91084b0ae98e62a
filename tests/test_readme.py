"""Each command that README shows does what README says, in a copy of the repository.

`make run` and `make test` are run by .ci/run, and `make demo` by the tests of the page.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from socket import create_server
from typing import NamedTuple

import numpy as np
import pytest

from nnpipe import weights
from nnpipe.network import Network

from . import sheets
from .conftest import ROOT, copy_of_the_project

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```", README)
# Blocks of commands, and what README says they print.
ANSWERS = dict(re.findall(r"(?ms)^```bash\n(nnpipe .*?)^```\n(?:\n^```\n(.*?)^```)?", README))
TO_BEGIN, MEANWHILE = (text for kind, text in BLOCKS if kind == "bash" and "prefect" in text)
STAGES = re.findall(  # each stage's command, and its flow
    r"`((?:nnpipe|python -m flows)[^`]+)`(?= \|)",
    README[README.index("## Every stage") : README.index("Flows run on Prefect's")],
)


class Shell(NamedTuple):
    """A bash in a copy of the repository, with an empty home."""

    folder: Path
    environment: dict[str, str]

    def start(self, script, log):
        return subprocess.Popen(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it starts can be ended with it
        )

    def run(self, script, timeout=300):
        """What it prints on stdout and stderr; it must succeed, or be told of bad files (3)."""
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode in (0, 3), done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    place = tmp_path_factory.mktemp("readme")
    folder = place / "nnpipe"
    copy_of_the_project(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    for picture in (folder / "samples").glob("[0-9]-*.png"):
        own = folder / "my-pictures" / picture.name[0]
        own.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, own)
    return Shell(
        folder,
        {
            **os.environ,
            "HOME": str(place / "home"),
            "PREFECT_HOME": str(place / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PATH": f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),  # its own nnpipe, and so its own champion
        },
    )


def steady(text):
    """Without what differs from run to run: speeds, times, and the slowest file."""
    text = re.sub(r"\d+ a second", "N a second", text)
    return re.sub(r"slowest: .*", "slowest", text)


@pytest.mark.parametrize(
    "commands",
    # A report's plots take some ten seconds, and a training more.
    [
        pytest.param(c, marks=pytest.mark.slow if re.search("evaluate|train", c) else ())
        for c in ANSWERS
    ],
)
def test_commands_print_what_is_shown(shell, commands, request):
    if "download" in commands:
        files = request.getfixturevalue("mnist_files")
        shell.environment["NNPIPE_MNIST_MIRROR"] = files.as_uri()
    assert steady(ANSWERS[commands]) in steady(shell.run(commands))


def test_the_lines_of_python_print_the_digit(shell):
    ((_, lines),) = (block for block in BLOCKS if block[0] == "python")
    assert shell.run(f"python - <<'END'\n{lines}END") == "6\n"


@pytest.fixture(scope="module")
def scheduled(shell, mnist_files):
    """What the block about Prefect has started; on a free port, should another server run here."""
    with create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shell.environment["NNPIPE_MNIST_MIRROR"] = mnist_files.as_uri()
    shell.environment["PREFECT_SERVER_API_PORT"] = port
    log = shell.folder / "worker.log"
    with log.open("wb") as stream:
        started = shell.start(TO_BEGIN.replace("4200", port), stream)
    try:
        end = time.monotonic() + 240
        while "Worker 'ProcessWorker" not in log.read_text():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield shell
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait(30)


@pytest.mark.slow
def test_what_is_deployed_runs_when_asked(scheduled):
    """The inbox is scored; a network of five epochs is trained, and does not become champion."""
    before = (scheduled.folder / "weights/model_weights.npz").read_bytes()
    time.sleep(30)  # younger files would wait for the next run, as the text says
    said = scheduled.run(MEANWHILE, timeout=400)
    assert said.count("finished successfully in 'Completed'") == 2, said
    rows = (scheduled.folder / "reports/inbox.csv").read_text().splitlines()
    assert len(rows) == 1 + len(list((scheduled.folder / "inbox").iterdir()))
    assert (scheduled.folder / "weights/model_weights.npz").read_bytes() == before


def weaken(path):
    """Make a weights file another one, which reads fewer digits."""
    network, about = weights.load(path)
    *first, last = network.layers
    noise = np.random.default_rng(0).normal(0, 3, len(last.b)).astype(np.float32)
    moved = last._replace(b=last.b + noise)
    weights.save(
        path, Network((*first, moved)), metadata=about, golden=np.zeros((1, 784), np.uint8)
    )


@pytest.mark.slow
def test_every_stage_runs_by_command_and_as_a_flow(scheduled):
    """Placeholders stand for what a user would give, and one epoch is enough here."""
    mine = scheduled.folder / "weights/runs/mine"
    shutil.copytree(scheduled.folder / "weights", mine, ignore=lambda _, names: {"runs", "former"})
    sheets.form().save(scheduled.folder / "form.png")
    sheets.form(("120", "035", "007", "162")).save(scheduled.folder / "SCANS.pdf", resolution=100)
    (scheduled.folder / "FORM.toml").write_text(sheets.toml("form.png"))
    for command in STAGES:
        output = "scores.csv" if "score" in command else "weights/model_weights.npz"
        for word, meaning in {
            "RUN": "weights/runs/mine",
            "FOLDER": "samples",
            "FILE": output,
            "PAGE": "form.png",
            "PICTURES": "my-pictures",
        }.items():
            command = re.sub(rf"\b{word}\b", meaning, command)
        if re.search(r"train|pipeline", command):
            command += " --epochs 1"
            if "numpy" not in command:
                command += " --recipe classic"  # whose pictures need no drawing
        if "rollback" in command:  # to what is before it
            weaken(scheduled.folder / "weights/model_weights.npz")
            scheduled.run("nnpipe models promote weights/runs/mine --again")
        if "promote" in command:
            weaken(scheduled.folder / "weights/model_weights.npz")  # only what is better may be
        scheduled.run(command, timeout=300)
