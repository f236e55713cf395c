"""Text that arrives token by token: a token can end in the middle of a character."""

import codecs

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
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(waiting)
    return text, decoder.getstate()[0]
