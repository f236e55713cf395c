"""What the models of the induction-heads test answered when they were asked more texts than a notebook has time for.

Written by `python scripts/measure_induction.py`. The record knows the weights that it was measured with: of others it says nothing.
"""

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file

from hybridlab.ssm.induction_heads import Score
from hybridlab.ssm.long_context_models import PACKAGED

RECORD = Path(__file__).with_name("long_context_record.json")


def fingerprint(name: str) -> str:
    """SHA-256 of a shipped model's weights."""
    digest = hashlib.sha256()
    for key, part in sorted(load_file(PACKAGED).items()):
        if key.startswith(f"{name}/"):
            digest.update(key.encode() + part.numpy().tobytes())
    return digest.hexdigest()


def recorded(name: str, path: Path = RECORD) -> list[Score]:
    """The scores on record of the model as it is shipped now, by length; none if they are of other weights."""
    kept = json.loads(path.read_text("utf-8")).get(name, {}) if path.exists() else {}
    return [Score(*row) for row in kept["scores"]] if kept.get("weights") == fingerprint(name) else []


def record(name: str, scores: list[Score], path: Path = RECORD) -> None:
    """Put a model's scores in the place of those on record, with its weights' fingerprint."""
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    rows = [[one.length, one.correct, one.asked, round(one.cpu_seconds, 2)] for one in sorted(scores, key=lambda one: one.length)]
    kept[name] = {"weights": fingerprint(name), "scores": rows}
    models = ",\n".join(f'"{model}": {json.dumps(kept[model])}' for model in sorted(kept))
    path.write_text(f"{{\n{models}\n}}\n", "utf-8")
