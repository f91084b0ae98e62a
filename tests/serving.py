"""Servers of the drawing page that tests start, and a client for them."""

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
SECONDS = 30  # until anything that a test waits for must have happened


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class Client(NamedTuple):
    """Send requests to a server, each over a new connection."""

    port: int

    def ask(self, method, path, *, body=None, headers=None, **options):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, headers or {}, **options)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, body, path=PREDICT, *, kind="application/octet-stream", **options):
        return self.ask("POST", path, body=body, headers={"Content-Type": kind}, **options)

    def post_json(self, value, path=PREDICT):
        return self.post(json.dumps(value), path, kind="application/json")


class Running(NamedTuple):
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path  # its stderr; a full pipe would stop it

    def said(self):
        return self.log.read_text()


@contextmanager
def process(*arguments, **environment):
    """Start a server in a process, wait for its address, and end it after the block."""
    command = [sys.executable, "-m", *arguments]
    with tempfile.NamedTemporaryFile() as log:
        started = subprocess.Popen(command, env=ENVIRONMENT | environment, stderr=log)
        running = Running(started, Path(log.name))
        try:
            end = time.monotonic() + SECONDS
            while not (address := re.search(r"http://\S+:(\d+)", running.said())):
                assert started.poll() is None, running.said()
                assert time.monotonic() < end, running.said()
                time.sleep(0.05)
            yield running, Client(int(address[1]))
        finally:
            started.kill()
            started.wait(SECONDS)


@contextmanager
def serving(app, **options):
    """Start a server in a thread, where a test can patch the application."""
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
