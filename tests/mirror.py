"""An HTTP server on loopback that serves MNIST's files and misbehaves on demand."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTML = b"<html><body>Please accept our terms to use this network.</body></html>"


class Mirror:
    """How the server behaves; tests change ``mode`` while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mode = "good"
        self.failing = 0  # this many requests are answered with 503 before all is good
        self.requests: list[str] = []
        self.stopped = threading.Event()
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rsplit("/", 1)[-1]
        self.requests.append(name)
        content = (self.folder / name).read_bytes()
        if self.failing > 0:
            self.failing -= 1
            self.send(request, b"", code=503)
            return
        match self.mode:
            case "good":
                self.send(request, content)
            case "missing":
                self.send(request, b"", code=404)
            case "error page":
                self.send(request, HTML)
            case "truncated":
                self.send(request, content[: len(content) // 2], promised=len(content))
            case "corrupt":
                self.send(request, content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
            case "redirects in a circle":
                request.send_response(302)
                request.send_header("Location", request.path)
                request.end_headers()
            case "no HTTP":
                request.wfile.write(b"220 ftp ready\r\n")
            case "silent":
                self.stopped.wait(30)
            case "slow":
                self.send(request, b"", promised=len(content))
                for byte in content:
                    if self.stopped.wait(0.1):
                        break
                    request.wfile.write(bytes([byte]))

    @staticmethod
    def send(request, content: bytes, code: int = 200, promised: int | None = None) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(content) if promised is None else promised))
        request.end_headers()
        request.wfile.write(content)


@contextmanager
def serving(folder: Path) -> Iterator[Mirror]:
    """Run a mirror of ``folder`` for as long as the block lasts."""
    mirror = Mirror(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A client that gives up closes the connection, as it should.
            with suppress(BrokenPipeError, ConnectionResetError):
                mirror.answer(self)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_port}/mnist/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
