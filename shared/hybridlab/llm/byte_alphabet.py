"""A printable character for each of the 256 bytes, as GPT-2 chose them, so that files can hold pieces of bytes as text.

Bytes that print (`A`, `é`) stand for themselves; the other 68 get the characters from U+0100 on: a space is `Ġ`, a newline `Ċ`.
Their order, printable bytes first, is also the order of the first 256 tokens of every GPT-2-like vocabulary.
Source: Radford et al., 2019 (GPT-2), `bytes_to_unicode` of the released encoder.
"""

PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTE_ORDER = bytes(PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE])  # token -> byte
CHARACTERS = {byte: chr(byte) if byte in PRINTABLE else chr(256 + BYTE_ORDER.index(byte) - len(PRINTABLE)) for byte in range(256)}
BYTES = {character: byte for byte, character in CHARACTERS.items()}
BYTE_TOKENS = {byte: token for token, byte in enumerate(BYTE_ORDER)}


def to_printable(piece: bytes) -> str:
    """b' the' -> 'Ġthe': how a vocabulary file writes these bytes."""
    return "".join(CHARACTERS[byte] for byte in piece)


def from_printable(text: str) -> bytes:
    """'Ġthe' -> b' the'. Raises ValueError where a character stands for no byte."""
    try:
        return bytes(BYTES[character] for character in text)
    except KeyError as unknown:
        raise ValueError(f"{unknown} in {text!r} stands for no byte: this is no byte-level vocabulary") from None
