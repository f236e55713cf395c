"""`make bench`: measure, write results/*.json, and the table of docs/benchmarks.md from them.

python -m tests.benchmarks              everything (about half an hour on two cores)
python -m tests.benchmarks attention    one of them; `table` only writes the table anew
"""

import importlib
import os
import sys

from hybridlab.runtime import prepare_environment

BENCHMARKS = (
    "attention",
    "block",
    "training",
    "tokenizer",
    "llama",
    "lora",
    "quantize",
    "batching",
    "engines",
    "vllm",
    "scans",
    "kernels",
    "long",
    "reading",
    "parsing",
    "embedding",
    "assistant",
    "grading",
    "recipes",
    "notebooks",
)


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - {*BENCHMARKS, "table"})
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; choose from: {', '.join(BENCHMARKS)}, table")
    prepare_environment()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; small models are fastest on one thread
    from tests.benchmarks import record, table

    for name in names or BENCHMARKS:
        if name != "table":
            record.say(f"benchmark {name} …")
            importlib.import_module(f"tests.benchmarks.{name}").main()
    table.main()


if __name__ == "__main__":
    main(sys.argv[1:])
