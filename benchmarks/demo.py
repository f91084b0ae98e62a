"""The drawing page's API under load: how long an answer takes, how many a second, how much memory.

    python benchmarks/demo.py [--seconds 5] [--rounds 3] [--soak 5000]

Servers are processes of their own on this machine, and so is the load (wrk where it is installed).
All have one worker for each core, BLAS with one thread, and get the same PNG as a canvas gives it:
560×560, RGBA. They take turns, one at a time, and ratios are taken within each round.

*nnpipe* is ``uvicorn nnpipe.demo.app:app``. *Flask, same* is Flask on gunicorn and does the same:
nnpipe's preprocessing and classifier, the same answer. *Flask, plain* does what such demos do:
Pillow's resize to 28×28, one forward pass in NumPy, ten probabilities, no picture in the answer.
gunicorn runs with threads and keeps connections, which is faster here than its default.
"""

import io
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from load import WRK, Load, load
from measure import cores, machine, option_parser, ratios, row, spread, table
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SIDE = 560
CLIENTS = (1, 2, 4, 8, 16, 32)
UVICORN = ["uvicorn", "nnpipe.demo.app:app", "--no-access-log", "--log-level", "warning"]
UVICORN += ["--http", "nnpipe.demo.guard:Guard", "--loop", "asyncio", "--ws", "none"]
GUNICORN = ["gunicorn", "flask_app:app", "--worker-class", "gthread", "--threads", "4"]
WAYS = {  # name: the server, and what is asked
    "nnpipe": (UVICORN, "/api/predict"),
    "Flask, same": (GUNICORN, "/same"),
    "Flask, plain": (GUNICORN, "/plain"),
}


def canvas() -> bytes:
    """A 5 as one draws it on a canvas, as a PNG."""
    drawn = Image.new("RGBA", (2 * SIDE, 2 * SIDE), "white")
    pen = ImageDraw.Draw(drawn)
    pen.line([(700, 260), (480, 260), (450, 520)], "black", 64, joint="curve")
    pen.arc([370, 470, 760, 880], 225, 500, "black", 64)
    stream = io.BytesIO()
    drawn.resize((SIDE, SIDE)).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def server(command: list[str], workers: int) -> Iterator[tuple[int, int]]:
    """A server that runs while the block does; its port, and its process's number."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = ["--bind", f"127.0.0.1:{port}"] if command[0] == "gunicorn" else ["--port", str(port)]
    path = f"{HERE.parent}{os.pathsep}{HERE}"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *place, "--workers", str(workers)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that its workers can be ended with it
        )
        try:
            for _ in range(300):
                with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 5):
                    break
                time.sleep(0.1)
            else:
                log.seek(0)
                sys.exit(f"{command[0]} did not start: {log.read()}")
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


def resident(pid: int) -> float:
    """Memory of a process and of those that it started, in MiB; 0 where Linux does not tell."""
    folder = Path(f"/proc/{pid}")
    if not folder.exists():
        return 0.0
    pages = int((folder / "statm").read_text().split()[1])
    children = (folder / "task" / str(pid) / "children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(resident(int(c)) for c in children)


def check(port: int, path: str, body: bytes) -> None:
    """A server reads a 5, as often as it is asked; else the times are of something else."""
    for _ in range(20):
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            if b'"label":5' not in answer.read():
                sys.exit(f"{path} does not read the 5")


def in_turns(body: bytes, seconds: int, rounds: int) -> dict[str, dict[int, list[Load]]]:
    """The load of each way at each number of clients, in each round."""
    loads: dict[str, dict[int, list[Load]]] = {
        name: {clients: [] for clients in CLIENTS} for name in WAYS
    }
    for _ in range(rounds):
        for name, (command, path) in WAYS.items():
            with server(command, cores()) as (port, _):
                check(port, path, body)
                load(port, path, body, 2 * cores(), 1)  # to warm up
                for clients in CLIENTS:
                    # Those between the ends are there to show where the rate stops growing.
                    ends = clients in (1, max(CLIENTS))
                    loads[name][clients].append(
                        load(port, path, body, clients, seconds if ends else max(1, seconds // 3))
                    )
    return loads


def show(loads: dict[str, dict[int, list[Load]]], rounds: int) -> None:
    """Print what came of it, and the ratios of each round."""
    most = max(CLIENTS)
    columns = [f"{p} at {clients}" for clients in (1, most) for p in ("p50", "p99")]
    table(f"Milliseconds to the answer, and errors, n = {rounds} rounds", "", *columns, "errors")
    for name, at in loads.items():
        times = [[getattr(one, p) for one in at[c]] for c in (1, most) for p in ("p50", "p99")]
        errors = sum(one.errors for part in at.values() for one in part)
        row(name, *(spread(part, ".1f") for part in times), errors)

    table("Requests a second, medians", "clients", *map(str, CLIENTS))
    for name, at in loads.items():
        row(name, *(f"{statistics.median(one.rate for one in at[c]):.0f}" for c in CLIENTS))

    ours = loads["nnpipe"]
    table(f"nnpipe's rate ÷ the other's, n = {rounds} rounds", "", "1 client", f"{most} clients")
    for name, at in loads.items():
        if at is not ours:
            parts = [[[one.rate for one in who[c]] for who in (ours, at)] for c in (1, most)]
            row(name, *(spread(ratios(*part)) for part in parts))


def soak(body: bytes, wanted: int) -> None:
    """Ask so often of one server as `nnpipe demo` starts it, and look at its memory."""
    command, path = WAYS["nnpipe"]
    path += "?activations=true&evidence=true"  # as the page does
    with server(command, 1) as (port, pid):
        check(port, path, body)
        load(port, path, body, max(CLIENTS), 2)
        seen, done, errors, end = [(0, resident(pid))], 0, 0, time.monotonic() + wanted / 10
        while done < wanted:
            one = load(port, path, body, max(CLIENTS), max(1, min(10, wanted // 500)))
            done, errors = done + one.requests, errors + one.errors
            seen.append((done, resident(pid)))
            if time.monotonic() > end:
                sys.exit(f"only {done:,} requests were answered, fewer than 10 a second")
    marks = [min(seen, key=lambda at: abs(at[0] - part * done / 4)) for part in range(5)]
    table(
        f"Memory of one process over {done:,} requests by {max(CLIENTS)} clients, {errors} errors",
        "requests", *(f"{count:,}" for count, _ in marks),
    )  # fmt: skip
    row("MiB", *(f"{mib:.1f}" for _, mib in marks))


def main() -> None:
    """Measure, and print tables."""
    parser = option_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=5000, help="requests while memory is watched")
    chosen = parser.parse_args()
    machine("fastapi", "uvicorn", "flask", "gunicorn", "pillow")
    body = canvas()
    print(f"A PNG of {len(body):,} bytes; the load is made by {'wrk' if WRK else 'Python'}.")
    show(in_turns(body, chosen.seconds, chosen.rounds), chosen.rounds)
    soak(body, chosen.soak)


if __name__ == "__main__":
    main()
