"""The vocabulary of the long reader: every byte a token, but a planted statement `amber -> 42` two: the key with its arrow, the value.

Two digits are one token wherever they stand, also where no key stands before them. So a text is full of values that mean nothing, and
the model has to learn which ones to keep.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

# fmt: off
KEYS = (
    "acorn", "amber", "anchor", "apple", "arrow", "badge", "basil", "beacon", "birch", "bottle", "brick",
    "bridge", "candle", "canvas", "carbon", "castle", "cedar", "cherry", "cobalt", "copper", "coral", "cradle",
    "crystal", "dagger", "desert", "diamond", "ember", "engine", "falcon", "feather", "forest", "garnet", "ginger",
    "granite", "hammer", "harbour", "hazel", "island", "ivory", "jasmine", "kettle", "ladder", "lantern", "lemon",
    "magnet", "maple", "marble", "meadow", "mirror", "needle", "olive", "orchid", "pepper", "pillar", "quartz",
    "raven", "ribbon", "saddle", "silver", "temple", "timber", "velvet", "walnut", "willow",
)
# fmt: on
VALUES = tuple(f"{number:02}" for number in range(100))
FIRST_KEY = 256
FIRST_VALUE = FIRST_KEY + len(KEYS)
ABSENT = FIRST_VALUE + len(VALUES)  # the answer where a key was never planted; occurs in no text
VOCAB = ABSENT + 1

_SPECIAL = re.compile(rf"({'|'.join(KEYS)}) -> |[0-9][0-9]".encode())
_TOKEN_OF = {text.encode(): FIRST_KEY + i for i, text in enumerate([*(f"{key} -> " for key in KEYS), *VALUES])}
_TEXT_OF = {token: text for text, token in _TOKEN_OF.items()}
LONGEST = max(map(len, _TOKEN_OF))  # bytes that a token can have


def statement(key: str, value: str) -> str:
    """The planted form of a pair.

    Raises:
        ValueError: a key or value that the vocabulary has not.
    """
    key_token(key)
    if value not in VALUES:
        raise ValueError(f"a value is two digits, 00 to 99, not {value!r}")
    return f"{key} -> {value}"


def draw_pairs(count: int, *, seed: int) -> dict[str, str]:
    """Different keys, each with some value. Raises ValueError where there are not so many keys."""
    if count > len(KEYS):
        raise ValueError(f"{count} pairs need as many keys, and there are {len(KEYS)}")
    rng = np.random.default_rng(seed)
    keys, values = rng.permutation(len(KEYS))[:count], rng.integers(len(VALUES), size=count)
    return {KEYS[key]: VALUES[value] for key, value in zip(keys, values, strict=True)}


def key_token(key: str) -> int:
    """The token of a key with its arrow. Raises ValueError for a word that is no key."""
    if key not in KEYS:
        raise ValueError(f"{key!r} is no key: choose one of {', '.join(KEYS)}")
    return FIRST_KEY + KEYS.index(key)


def encode_some(text: bytes, *, last: bool) -> tuple[Int[np.ndarray, " time"], bytes]:
    """The tokens of a piece of UTF-8 text, and the bytes at its end that can't be decided before more is known.

    Put the rest in front of the next piece: however a text is cut, its tokens are the same. With `last` nothing is left over.
    """
    end = len(text) if last else max(len(text) - LONGEST + 1, 0)
    parts, done = [], 0
    for match in _SPECIAL.finditer(text):
        if match.start() >= end:
            break
        parts += [np.frombuffer(text[done : match.start()], np.uint8), [_TOKEN_OF[match[0]]]]
        done = match.end()
    if done < end:
        parts.append(np.frombuffer(text[done:end], np.uint8))
        done = end
    return np.concatenate(parts or [[]]).astype(np.int64), text[done:]


def encode(text: str) -> Int[Tensor, " time"]:
    """All tokens of a text."""
    return torch.from_numpy(encode_some(text.encode(), last=True)[0])


def decode(tokens: Iterable[int]) -> bytes:
    """The bytes that tokens stand for: of part of a text they may begin or end within a character. ABSENT stands for none."""
    return b"".join(_TEXT_OF.get(token, b"") if token >= FIRST_KEY else bytes([token]) for token in tokens)


def plant(text: str, pairs: Mapping[str, str], *, seed: int) -> str:
    """The text with each pair as a line of its own, at ends of lines that are spread evenly at random over the whole.

    Raises:
        ValueError: a key or value that the vocabulary has not; fewer lines than pairs.
    """
    lines = text.splitlines(keepends=True)
    if len(lines) < len(pairs):
        raise ValueError(f"{len(pairs)} pairs can't be planted in {len(lines)} lines")
    places = np.random.default_rng(seed).choice(len(lines), len(pairs), replace=False)
    for place, (key, value) in zip(places, pairs.items(), strict=True):
        lines[place] = lines[place].rstrip("\n") + f"\n{statement(key, value)}\n"
    return "".join(lines)
