"""Servers of the drawing page that tests start, and a client that asks them."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn

from .conftest import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PREDICT = "/api/predict"
SECONDS = 30  # in which whatever is waited for must happen


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class Client(NamedTuple):
    """Asks a server; a new connection for each request."""

    port: int

    def ask(self, method, path, body=None, headers=None, **options):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, headers or {}, **options)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, body, path=PREDICT, kind="application/octet-stream", **options):
        return self.ask("POST", path, body, {"Content-Type": kind}, **options)

    def post_json(self, value, path=PREDICT):
        return self.post(json.dumps(value), path, "application/json")


class Running(NamedTuple):
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path  # its stderr; a pipe that nobody reads would stop it in the end

    def said(self):
        return self.log.read_text()


@contextmanager
def process(*arguments, **environment):
    """A server in a process that says where it listens; ended with the block."""
    command = [sys.executable, "-m", *arguments]
    with tempfile.NamedTemporaryFile() as log:
        started = subprocess.Popen(command, env=ENVIRONMENT | environment, stderr=log)
        running = Running(started, Path(log.name))
        try:
            end = time.monotonic() + SECONDS
            while not (found := re.search(r"http://\S+:(\d+)", running.said())):
                assert started.poll() is None, running.said()
                assert time.monotonic() < end, running.said()
                time.sleep(0.05)
            yield running, Client(int(found[1]))
        finally:
            started.kill()
            started.wait(SECONDS)


@contextmanager
def serving(app, **options):
    """A server in a thread, where a test can change what the application does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", **options))
        thread = threading.Thread(target=running.run, args=[[listening]])
        thread.start()
        try:
            yield Client(listening.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()
