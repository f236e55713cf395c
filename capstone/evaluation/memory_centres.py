"""The means of E5's vectors that memory takes out of them (`assistant.memory.meaning`): of the train world's talk, in both languages.

    python -m capstone.evaluation.memory_centres       # writes capstone/assistant/memory/centres.safetensors
"""

from __future__ import annotations

from assistant.language import passage_language
from assistant.memory.index import pieces
from assistant.memory.meaning import CENTRES
from hybridlab.rag.embed import E5
from hybridlab.runtime import set_threads
from safetensors.numpy import save_file

from capstone.evaluation.memory_probes import training
from capstone.evaluation.memory_talk import LANGUAGES
from capstone.evaluation.memory_vectors import Vectors

SPLIT, SEEDS, EACH = "train", range(54), 60


def main() -> None:
    set_threads()
    vectors = Vectors(E5())
    talks = list(training(SPLIT, SEEDS, EACH))
    passages = sorted({piece for talk in talks for one in talk.said for piece in pieces(one.text)})
    questions = sorted({one.question for talk in talks for one in talk.asked})
    means = {}
    for kind, texts, embed in (("query", questions, vectors.questions), ("passage", passages, vectors.passages)):
        for language in LANGUAGES:
            of = [text for text in texts if passage_language(text) == language]
            means[f"{kind} {language}"] = embed(of).mean(0)
            print(f"{kind} {language}: {len(of)} texts")
    save_file(means, CENTRES)


if __name__ == "__main__":
    main()
