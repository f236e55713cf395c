"""A wrong answer's name."""

from __future__ import annotations


class Mistake(AssertionError):
    """What a check raises: code, what is wrong, the evidence, a hint.

    >>> print(Mistake("ATTN-03", "rows do not sum to 1", "row sums [0.7, 1.9]", "which axis are the keys?"))
    ATTN-03 rows do not sum to 1 — row sums [0.7, 1.9]. Hint: which axis are the keys?
    """

    def __init__(self, code: str, what: str, evidence: str = "", hint: str = ""):
        self.code, self.what, self.evidence, self.hint = code, what, evidence, hint
        super().__init__(describe(code, what, evidence, hint))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the sentence alone, not the stack of the checker."""
        return [f"\x1b[31m{self}\x1b[0m"]


def describe(code: str, what: str, evidence: str = "", hint: str = "") -> str:
    text = f"{code} {what}"
    if evidence:
        text += f" — {evidence.rstrip('.')}."
    elif not text.endswith("."):
        text += "."
    return f"{text} Hint: {hint}" if hint else text
