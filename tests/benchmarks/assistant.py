"""The assistant as it is delivered: its start, its first word, its decoding against the engine called directly, search, ingestion.

Seconds on the clock are what a user waits for; beside them stands the CPU time, which a busy machine moves less.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from assistant.engines.base import Message, Request
from assistant.engines.embedded import Embedded, body_of
from assistant.knowledge.abstention import best_first, is_evidence
from assistant.knowledge.quotes import cite
from assistant.knowledge.reading import reader, reader_id
from assistant.knowledge.service import Knowledge
from assistant.orchestrator import prompt_of
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag.chunk import chunk
from hybridlab.rag.embed import E5
from hybridlab.rag.parse import parse
from hybridlab.runtime import set_threads

from capstone.evaluation import documents
from capstone.evaluation.questions import load
from tests.benchmarks.record import say, write
from tests.capstone.process import Served, serving_process

STARTS, TURNS, CHUNKS, ANSWER = 3, 5, 10_000, 96
TOKENS = 230  # of a chunk
STORY = "Write a long story about a lighthouse keeper."
Samples = dict[str, list[float]]


def cpu_seconds(pid: int) -> float:
    """Of the process and of the children that have ended."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def questions(count: int) -> list[str]:
    """English questions that the policy manual answers."""
    return [q.question for q in load() if q.document == "debian-policy.pdf" and q.language == "en"][:count]


# ---------------------------------------------------------------- over the API


def starts(home: Path) -> Samples:
    clock, cpu = [], []
    for _ in range(STARTS):
        with serving_process(home) as served:
            clock.append(served.seconds)
            cpu.append(cpu_seconds(served.pid))
    return {"start of the process until ready, s (goal ≤ 5)": clock, "the start, s of CPU time": cpu}


def ingestion(served: Served) -> Samples:
    """The policy manual from the upload's first byte until it is found by words, and until it is found by meaning."""
    data = (documents.FOLDER / "debian-policy.pdf").read_bytes()
    begin, spent = time.monotonic(), cpu_seconds(served.pid)
    document = served.upload("debian-policy.pdf", data)
    served.wait(document, ("searchable", "ready"))
    words, words_cpu = time.monotonic() - begin, cpu_seconds(served.pid) - spent
    say(f"found by words after {words:.1f} s")
    served.wait(document, seconds=1800)
    whole, whole_cpu = time.monotonic() - begin, cpu_seconds(served.pid) - spent
    with served.client() as client:
        pages = client.get(f"/v1/documents/{document}").json()["pages"]
    say(f"found by meaning after {whole:.0f} s")
    return {
        f"PDF of {pages} pages until found by words, s (goal ≤ 3 for 200)": [words],
        "until found by words, s of CPU time": [words_cpu],
        "the same PDF until found by meaning, pages/s (goal ≥ 6 with AVX-512 bf16)": [pages / whole],
        "until found by meaning, pages/s of CPU time": [pages / whole_cpu],
    }


def events(served: Served, body: dict) -> Iterator[tuple[float, dict]]:
    """Server-sent events of an answer, each with the seconds since it was asked."""
    begin = time.perf_counter()
    with served.client() as client, client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield time.perf_counter() - begin, json.loads(line[6:])


def pace(times: list[float]) -> float:
    """Tokens a second from the first to the last."""
    return (len(times) - 1) / (times[-1] - times[0])


def decoding(served: Served, engine: Embedded) -> tuple[Samples, float]:
    """Tokens a second over the API and from llama.cpp itself, turn about; and the median of the ratios within each turn."""
    request = Request((Message("user", STORY),), max_tokens=ANSWER)
    body = {"messages": [{"role": "user", "content": STORY}], "max_tokens": ANSWER, "documents": []}

    def over_api() -> float:
        return pace([at for at, event in events(served, body) if event["choices"] and event["choices"][0]["delta"].get("content")])

    def directly() -> float:
        times: list[float] = []

        def receive(part: dict) -> bool:
            if any(choice["delta"].get("content") for choice in part.get("choices", ())):
                times.append(time.perf_counter())
            return False

        engine._server.handle_chat_completions(body_of(request), receive)
        return pace(times)

    over_api(), directly()
    sides = {"over the API": (over_api, served.pid), "by llama.cpp called directly": (directly, os.getpid())}
    speed, cpu = ({name: [] for name in sides} for _ in range(2))
    for turn in range(TURNS):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            side, pid = sides[name]
            spent = cpu_seconds(pid)
            speed[name].append(side())
            cpu[name].append(1e3 * (cpu_seconds(pid) - spent) / ANSWER)
    rows = {f"decoding {name}, tokens/s": values for name, values in speed.items()}
    rows |= {f"decoding {name}, ms of CPU time a token": values for name, values in cpu.items()}
    return rows, statistics.median(a / b for a, b in zip(*speed.values(), strict=True))


def first_words(served: Served) -> Samples:
    """Seconds until the first word of an answer that rests on four citations."""
    taken = []
    for question in questions(2 * TURNS):
        cited = 0
        for at, event in events(served, {"messages": [{"role": "user", "content": question}], "max_tokens": 8}):
            cited = len(event.get("citations", ())) or cited
            if event["choices"] and event["choices"][0]["delta"].get("content"):
                if cited == 4:
                    taken.append(at)
                break
    return {"question to first word with 4 citations, s (goal ≤ 1.5)": taken}


# ---------------------------------------------------------------- room by room


def rooms(home: Path, engine: Embedded) -> Samples:
    """Where a first word's time goes: the same questions in this process, step by step."""
    encoder, settings = E5(), Settings(home=home, _env_file=None)
    store = Store(settings.database)
    knowledge = Knowledge(store, encoder, settings)
    knowledge.search("local", "fill the index", 1)
    steps: Samples = {
        "of that, search, s": [],
        "of that, whether it is evidence, s": [],
        "of that, choice of quotes, s": [],
        "of that, reading of the prompt, s": [],
        "its tokens": [],
    }
    for question in questions(2 * TURNS):
        marks = [time.perf_counter()]
        hits = knowledge.search("local", question, settings.evidence)
        marks.append(time.perf_counter())
        reading = knowledge.read("local", question, hits)
        is_evidence(question, hits, knowledge.heard("local", question), reading)
        marks.append(time.perf_counter())
        citations = cite(store, "local", question, best_first(reading))
        marks.append(time.perf_counter())
        prompt = read(engine, Request(prompt_of(question, citations), max_tokens=2))
        marks.append(time.perf_counter())
        for name, value in zip(steps, [*np.diff(marks).tolist(), prompt], strict=True):
            steps[name].append(value)
    store.close()
    return steps


def read(engine: Embedded, request: Request) -> int:
    """Let the engine read a prompt and write its first word; returns the prompt's tokens."""
    usage: list[int] = []

    def receive(part: dict) -> bool:
        usage.extend([part["usage"]["prompt_tokens"]] if part.get("usage") else [])
        return False

    engine._server.handle_chat_completions(body_of(request), receive)
    return usage[-1]


def searching(home: Path) -> Samples:
    """Milliseconds of a search among 10,000 chunks: the manual's own, many times over, each with a vector near its real one."""
    settings = Settings(home=home, _env_file=None)
    store, encoder = Store(settings.database), E5()
    store.keys.ensure_user("many")
    rng, parsed = np.random.default_rng(0), parse(documents.FOLDER / "debian-policy.pdf")
    chunks = chunk(parsed)
    for copy in range(-(-CHUNKS // len(chunks))):
        document, _ = store.documents.receive("many", f"copy-{copy}.pdf", "application/pdf", f"{copy:064x}", 1)
        store.documents.parsed(document.id, parsed, chunks[: CHUNKS - copy * len(chunks)])
        ids = [i for i, _ in store.documents.to_embed(document.id, CHUNKS)]
        vectors = rng.standard_normal((len(ids), encoder.dim)).astype(np.float32)
        store.documents.embedded(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        width = reader().width  # of what the reader reads of each token
        kept = rng.integers(-127, 128, (TOKENS, width), np.int8).tobytes()
        store.readings.keep(ids, [kept] * len(ids), reader_id())
    knowledge = Knowledge(store, encoder, settings)
    knowledge.search("many", "fill the index")
    whole, query = [], []
    for question in questions(40):
        begin = time.perf_counter()
        knowledge.search("many", question, 5)
        middle = time.perf_counter()
        encoder.passages([question])  # as long, in the same layers, and not remembered
        whole.append(1e3 * (middle - begin))
        query.append(1e3 * (time.perf_counter() - middle))
    store.close()
    return {
        f"search among {CHUNKS:,} chunks, ms": whole,
        "such a search, the slowest of 20 (p95), ms (goal ≤ 40)": [float(np.percentile(whole, 95))],
        "of that, the question's embedding, ms": query,
        "the question's embedding, the slowest of 20 (p95), ms": [float(np.percentile(query, 95))],
    }


def main() -> None:
    documents.fetch()
    settings = Settings(_env_file=None)
    set_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        samples = starts(home)
        engine = Embedded(None, threads=settings.threads, streams=settings.streams)
        with serving_process(home, requests_per_minute=10_000) as served:
            samples |= ingestion(served)
            decoded, share = decoding(served, engine)
            samples |= decoded | first_words(served)
        samples |= rooms(home, engine) | searching(Path(folder) / "many")
    note = (
        f"Each row names its unit. `assistant serve` on its defaults: {settings.threads} threads, {settings.streams} streams. "
        "The ratio is decoding over the API to llama.cpp called directly, turn about (goal ≥ 0.9)."
    )
    ratios = {next(iter(decoded)): share}
    write("assistant", unit="in the row's unit", samples=samples, ratios=ratios, note=note, by_processor=True)
    set_threads()  # as it was: the benchmarks that follow are of one thread
