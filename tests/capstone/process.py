"""The assistant as its user starts it: `assistant serve`, a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

COMMAND = (sys.executable, "-c", "from assistant.cli import main; main()")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def environment(home: Path, **chosen: object) -> dict[str, str]:
    """The environment of a command with these settings (`ASSISTANT_…`), and none of this shell or of the tests' own threads."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ASSISTANT_", "OMP_NUM_THREADS"))}
    return own | {f"ASSISTANT_{name.upper()}": str(value) for name, value in {"home": home, **chosen}.items()}


@dataclass
class Served:
    """`seconds`: from the start of the process until `/readyz` said yes."""

    url: str
    home: Path
    pid: int
    seconds: float

    @property
    def key(self) -> str:
        return (self.home / "local.key").read_text()

    def client(self, **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, **{"timeout": 60, **more})

    def upload(self, name: str, data: bytes) -> str:
        """The id of a document that was acknowledged."""
        with self.client() as client:
            answer = client.post("/v1/documents", files={"file": (name, data)})
            assert answer.status_code == 201, answer.text
            return answer.json()["id"]

    def wait(self, document: str, states: tuple[str, ...] = ("ready",), seconds: float = 600) -> float:
        """Seconds until a document is in one of these states. Raises AssertionError where it fails or takes longer."""
        begin = time.monotonic()
        with self.client() as client:
            while (shown := client.get(f"/v1/documents/{document}").json())["state"] not in states:
                assert shown["state"] != "failed", shown["error"]
                assert time.monotonic() < begin + seconds, f"{shown['name']} is still {shown['state']} after {seconds} s"
                time.sleep(0.05)
        return time.monotonic() - begin


@contextmanager
def serving_process(home: Path, **chosen: object) -> Iterator[Served]:
    """`assistant serve` on a free port, ready; ended with the signal that Ctrl-C sends. Raises AssertionError where it does not start."""
    port = free_port()
    # Bytes that nobody reads would stop the service once the pipe is full, so they go to a file.
    with (home.parent / f"{home.name}.log").open("w+") as log:
        begin = time.monotonic()
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", str(port)], env=environment(home, **chosen), cwd=home.parent, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > begin + 120:
                    log.seek(0)
                    raise AssertionError(f"`assistant serve` did not start: {log.read()[-2000:]}")
                time.sleep(0.02)
            yield Served(url, home, process.pid, time.monotonic() - begin)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
