"""The chatbot of month 2: what it is tuned with, and a conversation with it in the terminal.

python -m hybridlab.llm.chatbot                                             SmolLM2 as it is
python -m hybridlab.llm.chatbot --adapter chatbot.gguf                      with an adapter
python -m hybridlab.llm.chatbot --adapter chatbot.gguf --sources notes.txt  each question is about the paragraphs of that file
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybridlab.llm.chatbot_case import Case, Group
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.expert import Card, sha256
from hybridlab.llm.finetune import FinetuneConfig
from hybridlab.llm.grounded_prompt import Language, grounded_messages
from hybridlab.llm.instruction import Message, dialogue_example
from hybridlab.llm.lora import ALL_LINEAR, ATTENTION, LoRAConfig
from hybridlab.llm.packing import PackedRows
from hybridlab.llm.shared_prefix import prefix_rows
from hybridlab.llm.smollm2 import gguf_path
from hybridlab.llm.span_grammar import LANGUAGE, span_grammar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GROUPS = 68  # of training questions; each is one row, and one step: many short ones, for there are few steps
FIRST_BLOCK = 10  # the adapters' first: below it nothing learns, so nothing has to be kept for the way back
LONGEST = 1200  # tokens of an example
SOURCES_LONGEST = 6000  # characters of a file of sources: what the context holds, with room for the answer


def chatbot_lora(blocks: int = 30) -> LoRAConfig:
    """Rank 8 on all seven layers of the blocks from FIRST_BLOCK on: the way back ends there, which saves a sixth of the time."""
    rooms = {name: "self_attn" if name in ATTENTION else "mlp" for name in ALL_LINEAR}
    targets = tuple(f"layers.{block}.{room}.{name}" for block in range(FIRST_BLOCK, blocks) for name, room in rooms.items())
    return LoRAConfig(rank=8, alpha=16.0, targets=targets)


def chatbot_plan(groups: int = GROUPS) -> FinetuneConfig:
    """One group of questions a step, each group once."""
    return FinetuneConfig(steps=groups, lr=4e-3)


def training_rows(groups: Sequence[Group], tokenizer: PreTrainedTokenizerBase) -> PackedRows:
    """The groups as rows to train on with `prefix_mask`. Raises ValueError where there are none."""
    return prefix_rows([[dialogue_example(case.messages, tokenizer, LONGEST) for case in group] for group in groups])


def held_out_answer(model: EmbeddedModel, case: Case, adapter: int | None = None) -> str:
    """What the model says to a case, within its grammar."""
    return model.answer(case.prompt, adapter=adapter, max_tokens=64, grammar=case.grammar)


def chatbot_card(made: str) -> Card:
    """The card of an adapter for answers from sources, upon the packaged model. `made` says how it was trained."""
    base = gguf_path()
    return Card(name="sources", use="sources", base=base.stem, base_sha256=sha256(base), licence="Apache-2.0", made=made)


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file. Raises ValueError where it can't be read, is empty, or is too long for the model's context."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read ({error}): give a text file in UTF-8") from None
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if not found:
        raise ValueError(f"{path} is empty: write the sources into it, a blank line between two of them")
    if len(text) > SOURCES_LONGEST:
        raise ValueError(
            f"{path} has {len(text):,} characters, and the model reads {SOURCES_LONGEST:,}: make it shorter, or ask the assistant"
        )
    return found


def converse(model: EmbeddedModel, sources: Sequence[str]) -> None:
    """Read questions until the end of input (Ctrl-D) or an empty line, and stream the answers. About sources each question stands
    alone; without them the conversation goes on."""
    adapter = 0 if model.adapters else None
    turns: list[Message] = []
    for number, source in enumerate(sources, 1):
        print(f"[{number}] {source}")
    while True:
        try:
            question = input("\n> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not question:
            return
        turns.append({"role": "user", "content": question})
        language: Language = "en" if question.isascii() else "vi"
        asked = grounded_messages(question, sources, language) if sources else turns
        grammar = span_grammar(sources) if sources and adapter is not None and language == LANGUAGE else None
        said = model.answer(asked, adapter=adapter, grammar=grammar, piece=lambda text: print(text, end="", flush=True))
        print()
        turns.append({"role": "assistant", "content": said})


def main(words: Sequence[str] | None = None) -> int:
    """Converse as the words of the command line say (None: this process's own), and return the exit status.

    It is 1, with a sentence on stderr, where the adapter or the sources can't be used. Raises SystemExit on words that it does not know.
    """
    parser = argparse.ArgumentParser(prog="python -m hybridlab.llm.chatbot", description="Talk to SmolLM2, with or without an adapter.")
    parser.add_argument("--adapter", type=Path, help="a GGUF adapter, as the project writes it")
    parser.add_argument("--sources", type=Path, help="a text file: each question is about its paragraphs")
    chosen = parser.parse_args(words)
    try:
        sources = paragraphs(chosen.sources) if chosen.sources else []
        converse(EmbeddedModel([chosen.adapter] if chosen.adapter else []), sources)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
