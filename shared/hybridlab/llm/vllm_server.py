"""vLLM's CPU build as a server of its own, in the environment that `make vllm` makes (`.build/vllm`); nothing of it is imported here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from hybridlab.data.cache import REPOSITORY
from hybridlab.llm.smollm2 import model_folder

ENVIRONMENT = REPOSITORY / ".build" / "vllm"
START_SECONDS = 300
NAME = "smollm2"


class VllmUnavailable(RuntimeError):
    """vLLM is not installed, or did not start; the text says what to do."""


class Vllm:
    """A running server; an engine as those of `hybridlab.llm.engines`."""

    def __init__(self, url: str, process: subprocess.Popen) -> None:
        self.url, self.process = url, process

    def answer(self, prompts: Sequence[list[int]], n_new: int) -> list[list[int]]:
        def one(prompt: list[int]) -> list[int]:
            asked = {"model": NAME, "prompt": prompt, "max_tokens": n_new, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
            call = urllib.request.Request(f"{self.url}/v1/completions", json.dumps(asked).encode(), {"content-type": "application/json"})
            with urllib.request.urlopen(call, timeout=START_SECONDS) as response:
                return json.load(response)["choices"][0]["token_ids"]

        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(one, prompts))

    @property
    def mib(self) -> float:
        """Memory of the server and its engine process, in MiB."""
        whole = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (whole, *whole.children(recursive=True))) / 2**20


def is_installed() -> bool:
    """Whether `make vllm` has been run."""
    return (ENVIRONMENT / "complete").is_file()


@contextmanager
def vllm_server(threads: int) -> Iterator[Vllm]:
    """SmolLM2 in float32, served on this machine alone; ended with the block. Raises VllmUnavailable."""
    if not is_installed():
        raise VllmUnavailable("vLLM is not installed: `make vllm` makes an environment for it (about 4 GB)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    # the `vllm` command looks for the package vllm, and this one is called vllm-cpu: so the module, not the command
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder())]
    command += ["--served-model-name", NAME, "--dtype", "float32", "--max-model-len", "2048", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--enforce-eager"],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield Vllm(f"http://127.0.0.1:{port}", process)
        finally:
            _end(process)


def _wait(process: subprocess.Popen, url: str, log) -> None:
    """Until the server answers. Raises VllmUnavailable with the last line that it wrote where it ends or takes too long."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    said = lines[-1][:300] if lines else "it said nothing"
    raise VllmUnavailable(f"vLLM did not start ({said}): delete {ENVIRONMENT} and run `make vllm`")


def _end(process: subprocess.Popen) -> None:
    """The server and the process that it started, also where one of them does not listen."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue


def versions() -> dict[str, str]:
    """The versions that stand in the environment, as pip has recorded them."""
    found = {}
    for info in Path(ENVIRONMENT).glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if name in ("vllm_cpu", "torch", "transformers"):
            found[name.replace("_", "-")] = version
    return found
