"""The `assistant` command: serve, ingest, read, ask, eval, keys, export, delete-user."""

from __future__ import annotations

import functools
import gc
import json
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hybridlab.runtime import prepare_environment
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from assistant.settings import Settings, settings

if TYPE_CHECKING:
    from assistant.knowledge.service import Knowledge

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Questions of documents, answered with their sources."
)
keys = typer.Typer(no_args_is_help=True, help="API keys: each belongs to a user, who sees their own documents and conversations only.")
app.add_typer(keys, name="keys")
out, errors = Console(highlight=False), Console(stderr=True, highlight=False)
User = Annotated[str, typer.Option("--user", help="whose documents; the page on this machine is `local`")]


@contextmanager
def uncollected() -> Iterator[None]:
    """What is made in here stays to the end, modules and models: the garbage collector does not look through it, then or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def in_one_line(command: Callable) -> Callable:
    """Turn the rooms' errors into their sentence and exit code 1."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        with uncollected():
            from hybridlab.rag.e5_file import DamagedModel
            from hybridlab.rag.embed import MissingModel
            from hybridlab.rag.parse import DocumentError

            from assistant.engines.base import EngineError
            from assistant.store import StoreError

        try:
            return command(*args, **kwargs)
        except (DamagedModel, DocumentError, EngineError, MissingModel, StoreError) as error:
            sentence = str(error)
        except ValidationError as error:
            first = error.errors()[0]
            sentence = f"ASSISTANT_{'.'.join(map(str, first['loc'])).upper()} is set to {first['input']!r}: {first['msg']}."
        except OSError as error:
            sentence = f"{error.filename or 'a file'}: {error.strerror or error}."
        errors.print(sentence, markup=False, soft_wrap=True)
        raise typer.Exit(1)

    return run


@app.command()
@in_one_line
def serve(
    host: Annotated[
        str | None, typer.Option(help="the address to listen on; anything but this machine's own needs keys for the page, too")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="the port")] = None,
) -> None:
    """Start the service and its page. Ctrl-C ends it; what was acknowledged is kept."""
    with uncollected():
        import uvicorn

        from assistant.api.app import make_app
        from assistant.api.service import open_service
        from assistant.store import StoreError

    chosen = changed(host=host, port=port)
    try:
        listening = socket.create_server(
            (chosen.host, chosen.port), family=socket.AF_INET6 if ":" in chosen.host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise StoreError(f"{chosen.host}:{chosen.port} can't be listened on ({error.strerror}): choose another with --port.") from error
    with listening:
        with uncollected():
            service = open_service(chosen)  # what fails, fails here, in one sentence
            served = make_app(chosen, lambda: service)
        shown = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        out.print(f"The assistant is ready on http://{shown}:{chosen.port} (Ctrl-C ends it)", markup=False)
        config = uvicorn.Config(served, log_level="warning", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listening])


@app.command()
@in_one_line
def ingest(paths: Annotated[list[Path], typer.Argument(help="files, or folders of files")], user: User = "local") -> None:
    """Read documents into a user's knowledge, and wait until they are found by meaning. (With the service running, use its page or API.)"""
    from assistant.store import StoreError

    files = [f for path in paths for f in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])]
    if gone := [str(f) for f in files if not f.is_file()]:
        raise StoreError(f"{', '.join(gone)} not found: check the path.")
    with working(user) as knowledge:
        added = []
        for path in files:
            with path.open("rb") as stream:
                added.append(knowledge.add(user, path.name, stream).id)
        try:
            with Progress(console=out) as progress:
                bar = progress.add_task("reading and embedding", total=1.0)
                while not knowledge.wait(0.5):
                    states = [d for d in knowledge.documents(user) if d.id in added]
                    progress.update(bar, completed=sum(share(d) for d in states) / max(1, len(states)))
                progress.update(bar, completed=1.0)
        except KeyboardInterrupt:
            out.print("Interrupted: what was read is kept; `assistant serve` or another `assistant ingest` goes on.")
        for document in knowledge.documents(user):
            if document.id in added:
                out.print(f"{document.name}: {document.state}, {document.pages} pages {document.error}", markup=False)


@app.command()
@in_one_line
def read(
    path: Annotated[Path, typer.Argument(help="a file of any length")],
    question: Annotated[str, typer.Option(help="keys that are asked for; empty: all that is found")] = "",
    user: User = "local",
) -> None:
    """Store a file, and stream it through the long reader in memory of one size. Ctrl-C ends it. (With the service running, use its page or
    API.)"""
    from assistant.read_aloud import read_aloud

    with working(user) as knowledge:
        try:
            read_aloud(knowledge, user, path, question, out)
        except KeyboardInterrupt:
            out.print("Interrupted: the file is stored; another `assistant read` begins anew.")


@contextmanager
def working(user: str) -> Iterator[Knowledge]:
    """A user's knowledge, with its worker at work."""
    from assistant.knowledge.service import Knowledge
    from assistant.store import Store

    store = Store(settings().database)
    store.keys.ensure_user(user)
    knowledge = Knowledge(store, encoder(), settings())
    knowledge.start()
    try:
        yield knowledge
    finally:
        knowledge.close()


def share(document) -> float:
    return 1.0 if document.state in ("ready", "failed") else document.embedded / document.chunks if document.chunks else 0.0


@app.command()
@in_one_line
def ask(question: Annotated[str, typer.Argument()], user: User = "local") -> None:
    """Ask a user's documents, and what that user has said before, one question, here in the terminal."""
    import asyncio

    from assistant.engines import make_engine
    from assistant.engines.base import Message
    from assistant.knowledge.service import Knowledge
    from assistant.memory.learned import reader_for
    from assistant.memory.service import Memory
    from assistant.orchestrator import Cited, Delta, Options, Orchestrator
    from assistant.store import Store

    async def run() -> None:
        store, engine, embedding = Store(settings().database), make_engine(settings()), encoder()
        knowledge, memory = Knowledge(store, embedding, settings()), Memory(store, embedding, reader_for(embedding.dim)[0])
        orchestrator = Orchestrator(engine, knowledge, memory, store, settings())
        citations = ()
        async for event in orchestrator.answer(user, [Message("user", question)], Options()):
            if isinstance(event, Cited):
                citations = event.citations
            elif isinstance(event, Delta):
                print(event.text, end="", flush=True)
        print()
        for one in citations:
            out.print(f"[{one.number}] {place_of(one)}: “{one.quote}”", markup=False, soft_wrap=True)
        await engine.aclose()

    asyncio.run(run())


def place_of(citation) -> str:
    """Where a quote stands: a document's page or section, or who said it and when."""
    if citation.kind == "turn":
        return f"{citation.role}, {datetime.fromtimestamp(citation.created):%Y-%m-%d %H:%M}"
    return f"{citation.document}, {f'page {citation.page}' if citation.page else ' > '.join(citation.heading)}"


@app.command("eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def evaluation(context: typer.Context) -> None:
    """Measure retrieval, answers, citations, and abstention on the evaluation's questions (see docs/evaluation.md)."""
    import runpy

    sys.argv = ["assistant eval", *context.args]
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "evaluation" / "evaluate.py"), run_name="__main__")


@keys.command("add")
@in_one_line
def keys_add(user: Annotated[str, typer.Argument()], label: Annotated[str, typer.Option(help="what it is for")] = "") -> None:
    """Make a key. It is printed once, and stored only as a hash."""
    print(open_store().keys.add(user, label))


@keys.command("list")
@in_one_line
def keys_list() -> None:
    """Show whose keys there are."""
    table = Table("id", "user", "key", "label", "state")
    for key in open_store().keys.all():
        table.add_row(str(key.id), key.owner, key.shown, key.label, "revoked" if key.revoked else "valid")
    out.print(table)


@keys.command("revoke")
@in_one_line
def keys_revoke(key: Annotated[int, typer.Argument(help="its id, from `assistant keys list`")]) -> None:
    """Make a key invalid, from now on."""
    open_store().keys.revoke(key)
    out.print(f"key {key} is revoked")


@app.command()
@in_one_line
def export(user: Annotated[str, typer.Argument()], path: Annotated[Path, typer.Argument(help="the zip file to write")]) -> None:
    """Write everything that is kept of a user into a zip: their files, conversations, and a list of documents."""
    from assistant.knowledge.uploads import Uploads
    from assistant.store import StoreError

    chosen, store = settings(), open_store()
    if store.database.connection.execute("SELECT 1 FROM users WHERE id = ?", (user,)).fetchone() is None:
        raise StoreError(f"there is no user {user!r}: `assistant keys list` shows them.")
    uploads = Uploads(chosen.uploads, chosen.upload_bytes)
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        documents = store.documents.all(user)
        archive.writestr(
            "documents.json", json.dumps([{"id": d.id, "name": d.name, "sha256": d.sha256, "created": d.created} for d in documents])
        )
        for document in documents:
            archive.write(uploads.path(document.sha256), f"documents/{document.id}/{document.name}")
        for conversation in store.conversations.all(user):
            messages = [vars(message) for message in store.conversations.messages(user, conversation.id)]
            text = json.dumps({**vars(conversation), "messages": messages}, ensure_ascii=False, indent=1)
            archive.writestr(f"conversations/{conversation.id}.json", text)
    out.print(f"{path}: {len(documents)} documents, {len(store.conversations.all(user))} conversations")


@app.command("delete-user")
@in_one_line
def delete_user(user: Annotated[str, typer.Argument()], yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Delete a user: keys, documents, conversations, files. It can't be undone. (End the service first.)"""
    from assistant.knowledge.service import Knowledge

    if not yes:
        typer.confirm(f"Delete everything of {user}? It can't be undone.", abort=True)
    Knowledge(open_store(), None, settings()).delete_user(user)
    out.print(f"{user} is deleted")


def changed(**values) -> Settings:
    return settings().model_copy(update={name: value for name, value in values.items() if value is not None})


def open_store():
    from assistant.store import Store

    return Store(settings().database)


def encoder():
    from hybridlab.rag.embed import E5
    from hybridlab.runtime import set_threads

    set_threads(settings().threads)
    return E5()


def main() -> None:
    prepare_environment()  # before torch is loaded: threads that wait must not hold the cores that the engine needs
    app(prog_name="assistant")


if __name__ == "__main__":
    main()
