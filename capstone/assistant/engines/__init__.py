"""Three real engines behind one interface (`base`): in-process llama.cpp, transformers, and any OpenAI-compatible server."""

from __future__ import annotations

from assistant.engines.base import Engine
from assistant.engines.queue import Queued
from assistant.settings import Settings


def make_engine(settings: Settings) -> Queued:
    """The engine that the settings name, behind its queue. Raises EngineError where it can't be made."""
    engine: Engine
    if settings.engine == "embedded":
        from assistant.engines.embedded import Embedded, experts_for

        experts = experts_for(settings.home, settings.model) if settings.experts else []
        engine = Embedded(settings.model, threads=settings.threads, streams=settings.streams, experts=experts)
    elif settings.engine == "transformers":
        from assistant.engines.huggingface import Transformers

        engine = Transformers(settings.home / "models", threads=settings.threads)
    else:
        from assistant.engines.openai_compatible import OpenAICompatible

        key = settings.openai_api_key.get_secret_value()
        engine = OpenAICompatible(settings.openai_url, settings.openai_model, key, seconds=settings.answer_seconds)
    streams = 1 if settings.engine == "transformers" else settings.streams
    return Queued(engine, streams=streams, waiting=settings.queue, seconds=settings.answer_seconds)
