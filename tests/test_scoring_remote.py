"""Scoring from and to S3, spoken by moto behind a proxy that misbehaves on demand; and archives."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

BUCKET = "pictures"

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Store:
    """The server as tests see it: its objects, what was asked of it, and how it behaves."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.asked: list[tuple[str, str]] = []
        self.rule: Callable[[str, str], object] = lambda method, key: None
        session = boto3.session.Session("key", "secret", region_name="us-east-1")
        self.client = session.client("s3", endpoint_url=f"http://127.0.0.1:{port}")

    def put(self, objects: dict[str, bytes]) -> None:
        for key, content in objects.items():
            self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [about["Key"] for about in found.get("Contents", [])]
    
    def answer(self, request):
        key = unquote(urlsplit(request.path).path)
        self.asked.append((request.command, key))
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        assert "Transfer-Encoding" not in request.headers
        what = self.rule(request.command, key)
        if what is None:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            c.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for k, v in request.headers.items(): c.putheader(k, v)
            c.endheaders(body)
            r = c.getresponse()
            content = r.read()
            request.send_response_only(r.status)
            for k, v in r.getheaders():
                if k.lower() not in ("transfer-encoding","connection"): request.send_header(k, v)
            request.end_headers()
            if request.command != "HEAD": request.wfile.write(content)
            c.close()

