"""A trained model as one file: its shape, its characters and its weights. Enough to use it anywhere, and no code.

A training checkpoint (`checkpoint.py`) goes back into the run that wrote it. This file stands alone: whoever has it needs
neither the run nor the text.
"""

import os
from dataclasses import asdict
from pathlib import Path

import torch

from hybridlab.data.characters import CharacterVocabulary
from hybridlab.exercise import exercise
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

FORMAT = "hybridlab mini-gpt 1"


def save_gpt(path: str | os.PathLike, model: MiniTransformer, vocabulary: CharacterVocabulary) -> None:
    """Write the model so that `load_gpt` can bring it back: plain values and tensors only, whole or not at all."""
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    state = {"format": FORMAT, "config": asdict(model.config), "characters": vocabulary.characters}
    torch.save(state | {"weights": model.state_dict()}, draft)
    os.replace(draft, path)


@exercise
def load_gpt(path: str | os.PathLike) -> tuple[MiniTransformer, CharacterVocabulary]:
    """Bring a trained model and its vocabulary back from a file that `save_gpt` wrote.

    The file holds a dictionary of four entries:

        "format"        the text in FORMAT
        "config"        the fields of the model's TransformerConfig, as a dictionary
        "characters"    the vocabulary's characters, in the order of their tokens
        "weights"       the model's state_dict

    The model has the file's shape and all of its weights, not one more or less. It is ready to be used: on the CPU,
    wherever it was trained, and in eval mode. The file may come from anybody, so nothing in it may be run as code.

    Raises: ValueError if the file holds something else than this format, with the path in its text. What torch raises for
    a file that is missing or damaged may pass through.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model in the format {FORMAT!r}: write it with save_gpt")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval(), CharacterVocabulary(state["characters"])
