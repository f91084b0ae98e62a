"""What Prefect adds: the same work by command and as a flow, on both kinds of server.

    python benchmarks/overhead.py [--files 20000] [--rounds 3] [--data-dir data]

Each way is a process of its own, from its start to its end, and they take turns. *Temporary* is the
server that Prefect starts for one run; *running* is one that was started before. The overhead of a
stage is the difference to the command; that of scoring is compared with what a run over a million
pictures takes at the rate measured here. Home and database are in a folder that is removed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from measure import machine, option_parser, row, spread, table
from scoring import draw_small, link

ROOT = Path(__file__).parent.parent
DIFFERENT = 500
MILLION = 1_000_000


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with an empty home, and without other Prefect settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return {
        **inherited,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **more,
    }


@contextmanager
def server(home: Path, port: int) -> Iterator[str]:
    """Run a server while the block runs; give the address of its API."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with open(home.parent / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
    api = f"http://127.0.0.1:{port}/api"
    try:
        for _ in range(360):
            with suppress(OSError), urllib.request.urlopen(f"{api}/health", timeout=5):  # noqa: S310
                break
            time.sleep(0.5)
        else:
            sys.exit("the server did not start within three minutes")
        yield api
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def seconds(arguments: list[str], settings: dict[str, str]) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=settings, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print tables."""
    parser = option_parser(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=4219)
    chosen = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("different", "pictures", "temporary", "running"):
            (folder / part).mkdir()
        draw_small(folder / "different", DIFFERENT)
        link(folder / "different", folder / "pictures", files=chosen.files)
        data, out = str(chosen.data_dir.resolve()), str(folder / "out.csv")
        score = [str(folder / "pictures"), "--out", out]
        stages = {
            "evaluate, no plots": (
                ["nnpipe.cli", "evaluate", "--no-plots", "--data-dir", data, "--out", f"{name}/r"],
                [
                    "flows.evaluate",
                    "--no-plots",
                    "--force",
                    "--data-dir",
                    data,
                    "--out",
                    f"{name}/r",
                ],
            ),
            f"score {chosen.files:,} files": (
                ["nnpipe.cli", "score", *score, "--progress", "none"],
                ["flows.score", *score],
            ),
        }
        times: dict[str, dict[str, list[float]]] = {stage: {} for stage in stages}
        with server(folder / "running", chosen.port) as api:
            ways = {
                "command": environment(folder / "temporary"),
                "temporary": environment(folder / "temporary"),
                "running": environment(folder / "running", PREFECT_API_URL=api),
            }
            for number in range(chosen.rounds + 1):
                for stage, (command, flow) in stages.items():
                    for way, settings in ways.items():
                        took = seconds(command if way == "command" else flow, settings)
                        if number:  # the first warms caches and makes databases
                            times[stage].setdefault(way, []).append(took)

    machine("prefect")
    table(
        f"Seconds from the start of a process to its end, n = {chosen.rounds} rounds",
        "work", "by command", "on a temporary server", "on a running server", "running adds",
    )  # fmt: skip
    for stage, measured in times.items():
        added = [a - b for a, b in zip(measured["running"], measured["command"], strict=True)]
        seconds_of_all = [spread(taken, ".1f") for taken in measured.values()]
        row(stage, *seconds_of_all, f"{statistics.median(added):.1f}")
    direct = statistics.median(times[stage]["command"])
    million = direct * MILLION / chosen.files
    print(
        f"\nAt that rate a million files take {million:.0f} s, to which a running server adds ",
        end="",
    )
    print(f"{statistics.median(added) / million:.1%} if it adds as many seconds then.")


if __name__ == "__main__":
    main()
