"""llama.cpp in this process starts, ends, and talks to nobody else."""

import subprocess
import sys

import httpx
import pytest
from hybridlab.llm.embedded import server_options, start_server
from hybridlab.llm.smollm2 import gguf_path

MANY = """
from hybridlab.llm.embedded import server_options, start_server
from hybridlab.llm.smollm2 import gguf_path
for _ in range(10):
    start_server(server_options(gguf_path(), context=256, streams=1, threads=1))
"""


@pytest.mark.slow(seconds=10)
def test_a_server_that_is_let_go_of_at_once_ends():
    """Several processes beside each other: what must not come first comes first where a thread waits for a core."""
    side_by_side = [subprocess.Popen([sys.executable, "-c", MANY]) for _ in range(4)]
    try:
        assert [process.wait(timeout=120) for process in side_by_side] == [0] * 4
    finally:
        for process in side_by_side:
            process.kill()


@pytest.mark.slow(seconds=2)
def test_its_port_answers_nobody():
    server = start_server(server_options(gguf_path(), context=256, streams=1, threads=1))
    with httpx.Client(base_url=server.listening_address) as client:
        chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        assert client.post("/v1/chat/completions", json=chat).status_code == 401
        assert [client.get(path).status_code for path in ("/slots", "/metrics", "/props")] == [401] * 3
