"""The drawing page's API under load: time of an answer, answers a second, memory.

    python benchmarks/demo.py [--seconds 5] [--rounds 3] [--soak 5000]

The servers and the load generator (wrk if it is installed) are processes on this machine. Each
server has one worker per core, with one BLAS thread, and reads the same PNG of a canvas: 560×560,
RGBA. The servers take turns, and ratios are computed within each round.

*nnpipe* is ``uvicorn nnpipe.demo.app:app``. *Flask, same* is Flask on gunicorn with nnpipe's
preprocessing and classifier and the same answer. *Flask, plain* is a typical demo: Pillow's resize
to 28×28, one forward pass in NumPy, ten probabilities, no picture in the answer. gunicorn uses
threads and keeps connections open, which is faster here than its default.
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
SERVERS = {  # name: command, path
    "nnpipe": (UVICORN, "/api/predict"),
    "Flask, same": (GUNICORN, "/same"),
    "Flask, plain": (GUNICORN, "/plain"),
}


def canvas() -> bytes:
    """Return a drawn 5 as a canvas sends it, a PNG."""
    image = Image.new("RGBA", (2 * SIDE, 2 * SIDE), "white")
    pen = ImageDraw.Draw(image)
    pen.line([(700, 260), (480, 260), (450, 520)], "black", 64, joint="curve")
    pen.arc([370, 470, 760, 880], 225, 500, "black", 64)
    stream = io.BytesIO()
    image.resize((SIDE, SIDE)).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def server(command: list[str], workers: int) -> Iterator[tuple[int, int]]:
    """Run a server during the block; yields its port and its process id."""
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
            start_new_session=True,  # its workers are ended with it
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
    """Return the memory of a process and its children in MiB; 0 if this is not Linux."""
    folder = Path(f"/proc/{pid}")
    if not folder.exists():
        return 0.0
    pages = int((folder / "statm").read_text().split()[1])
    children = (folder / "task" / str(pid) / "children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(resident(int(c)) for c in children)


def check(port: int, path: str, *, body: bytes) -> None:
    """Check that a server reads the 5 in 20 of 20 requests."""
    for _ in range(20):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            if b'"label":5' not in answer.read():
                sys.exit(f"{path} does not read the 5")


def in_turns(body: bytes, *, seconds: int, rounds: int) -> dict[str, dict[int, list[Load]]]:
    """Measure each server with each number of clients in each round."""
    loads: dict[str, dict[int, list[Load]]] = {
        name: {clients: [] for clients in CLIENTS} for name in SERVERS
    }
    for _ in range(rounds):
        for name, (command, path) in SERVERS.items():
            with server(command, cores()) as (port, _):
                check(port, path, body=body)
                load(port, path, body, 2 * cores(), 1)  # to warm up
                for clients in CLIENTS:
                    # Numbers between the ends only show where the rate stops growing.
                    ends = clients in (1, max(CLIENTS))
                    loads[name][clients].append(
                        load(port, path, body, clients, seconds if ends else max(1, seconds // 3))
                    )
    return loads


def show(loads: dict[str, dict[int, list[Load]]], rounds: int) -> None:
    """Print the measurements, and the ratios within each round."""
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


def soak(body: bytes, requests: int) -> None:
    """Send requests to one server with the settings of `nnpipe demo`, and watch its memory."""
    command, path = SERVERS["nnpipe"]
    path += "?activations=true&evidence=true"  # as the page does
    with server(command, 1) as (port, pid):
        check(port, path, body=body)
        load(port, path, body, max(CLIENTS), 2)
        samples, done, errors = [(0, resident(pid))], 0, 0
        end = time.monotonic() + requests / 10
        while done < requests:
            one = load(port, path, body, max(CLIENTS), max(1, min(10, requests // 500)))
            done, errors = done + one.requests, errors + one.errors
            samples.append((done, resident(pid)))
            if time.monotonic() > end:
                sys.exit(f"only {done:,} requests were answered, fewer than 10 a second")
    marks = [min(samples, key=lambda at: abs(at[0] - part * done / 4)) for part in range(5)]
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
    show(in_turns(body, seconds=chosen.seconds, rounds=chosen.rounds), chosen.rounds)
    soak(body, chosen.soak)


if __name__ == "__main__":
    main()
