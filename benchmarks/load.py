"""A load generator: so many clients post the same body to a server, each one after the other.

It is wrk (Debian's package of that name) where that is installed, and else a process of Python,
which takes more of the machine for itself.
"""

import http.client
import json
import multiprocessing
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

WRK = shutil.which("wrk")

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/png"
wrk.body = io.open(os.getenv("BODY"), "rb"):read("*all")
function done(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "seconds": %f, "errors": %d, "p50": %f, "p99": %f}',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Load(NamedTuple):
    """What came of it."""

    requests: int
    seconds: float
    errors: int  # whatever was not answered, or not with 2xx or 3xx
    p50: float  # milliseconds
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def load(port: int, path: str, body: bytes, clients: int, seconds: int) -> Load:
    """Post a body to a path of a server on this machine, for so many seconds."""
    if not WRK:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_load, [port, path, body, clients, seconds])
    with tempfile.TemporaryDirectory() as folder:
        script, content = Path(folder, "post.lua"), Path(folder, "body")
        script.write_text(SCRIPT)
        content.write_bytes(body)
        command = [WRK, "--threads", "1", "--connections", str(clients)]
        command += ["--duration", f"{seconds}s", "--timeout", "30s", "--script", str(script)]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{path}"],
            env={"BODY": str(content)},
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
    return Load(**json.loads(done.stderr))


def _load(port: int, path: str, body: bytes, clients: int, seconds: float) -> Load:
    """The same in threads of this process."""
    start = time.perf_counter()
    times: list[float] = []
    errors: list[object] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while (begun := time.perf_counter()) < start + seconds:
            try:
                connection.request("POST", path, body, {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                if response.status >= 400:
                    errors.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                errors.append(error)
                connection.close()
            times.append(time.perf_counter() - begun)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    percentiles: Sequence[float] = [1e3 * t for t in statistics.quantiles(times, n=100)]
    took = time.perf_counter() - start
    return Load(len(times), took, len(errors), percentiles[49], percentiles[98])
