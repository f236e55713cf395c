"""Any server that speaks OpenAI's API: vLLM, llama.cpp's own, Ollama, a vendor. The official client does the talking."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

from assistant.engines.base import EngineBusy, EngineError, Piece, PromptTooLong, Request, RequestRefused, Usage

CONTEXT = 8192  # tokens; what the server itself says is not part of the API


class OpenAICompatible:
    """`url` is the API's base, as in http://127.0.0.1:8001/v1; `key` is sent to that server alone, and never logged."""

    name = "openai"
    experts, languages = (), None
    context = CONTEXT

    def __init__(self, url: str, model: str, key: str, *, seconds: float):
        if not model:
            raise EngineError("set ASSISTANT_OPENAI_MODEL to the name of a model that the server has.")
        import openai

        self.model, self._openai = model, openai
        self._client = openai.AsyncOpenAI(base_url=url, api_key=key or "none", timeout=seconds, max_retries=1)

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        options: dict[str, Any] = {"seed": request.seed} if request.seed is not None else {}
        if request.stop:
            options["stop"] = list(request.stop)
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        try:
            response = await self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": m.role, "content": m.content} for m in request.messages],
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                stream=True,
                stream_options={"include_usage": True},
                **options,
            )
        except self._openai.OpenAIError as error:
            raise self._explained(error) from error
        finish, usage = None, None
        try:
            async with response:
                async for chunk in response:
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        if choice.delta.content:
                            yield Piece(choice.delta.content)
        except self._openai.OpenAIError as error:
            raise self._explained(error) from error
        counted = Usage(usage.prompt_tokens, usage.completion_tokens) if usage else Usage(0, 0)
        yield Piece("", "length" if finish == "length" else "stop", counted)

    def _explained(self, error: Exception) -> EngineError:
        if isinstance(error, self._openai.RateLimitError):
            after = error.response.headers.get("retry-after", "")
            return EngineBusy(float(after) if after.isdigit() else 5.0)
        if isinstance(error, self._openai.AuthenticationError):
            return EngineError("the model's server does not know our key: set ASSISTANT_OPENAI_API_KEY to one of its own.")
        if isinstance(error, self._openai.APIStatusError) and error.code == "context_length_exceeded":
            numbers = [int(digits.replace(",", "")) for digits in re.findall(r"\d[\d,]*", error.message)]  # the first is a status
            sizes = sorted(n for n in numbers if n != error.status_code) or [0]
            return PromptTooLong(sizes[-1], sizes[0] if len(sizes) > 1 else self.context)
        if isinstance(error, self._openai.APIStatusError) and error.status_code in (400, 413, 422):
            return RequestRefused(f"the model's server refused the request ({error.status_code}): {error.message[:300]}")
        if isinstance(error, self._openai.APIConnectionError):
            return EngineError("the model's server can't be reached: is ASSISTANT_OPENAI_URL right, and the server running?")
        return EngineError(f"the model's server answered with an error: {type(error).__name__}")

    async def aclose(self) -> None:
        await self._client.close()
