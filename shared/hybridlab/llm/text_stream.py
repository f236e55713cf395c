"""Text that arrives token by token: a token can end in the middle of a character."""

from hybridlab.exercise import exercise


@exercise
def whole_characters(waiting: bytes) -> tuple[str, bytes]:
    """Split bytes into the text that can be shown now and the bytes that have to wait.

    A character takes one to four bytes in UTF-8, and a token may end in the middle of one. So the last bytes wait as long as
    more bytes could still make them one character (then there are one to three of them). Everything before them
    is text; bytes that can't be part of a character, whatever comes, become U+FFFD as `bytes.decode(errors="replace")` does.

    >>> whole_characters("Hà".encode()[:2])
    ('H', b'\\xc3')

    Returns: the text, and the bytes that wait (b"" if the last character is whole).
    """
    for start in range(max(0, len(waiting) - 3), len(waiting)):
        try:
            waiting[start:].decode()
        except UnicodeDecodeError as error:
            if error.start == 0 and error.reason == "unexpected end of data":
                return waiting[:start].decode(errors="replace"), waiting[start:]
    return waiting.decode(errors="replace"), b""
