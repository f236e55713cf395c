"""What a turn of talk is: a question about what was said before, a question at all, or something that is told to be remembered.

By rules, in both languages; Vietnamese with its marks or typed without them. A question that names neither ("What is my sister called?")
is told from one about documents by nothing but what is found, so there documents come first (`orchestrator`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from assistant.language import VIETNAMESE as VIETNAMESE_LETTERS
from assistant.memory.when import SESSIONS
from assistant.store.words import folded

_JUST = r"(?:just |already |also |once |ever |earlier |last |first )?"
_SAID = r"(?:said|mentioned|talked|spoke|discussed|agreed|told (?:you|me)|asked(?: you| me)?)"
_SAY = r"(?:say|mention|talk|speak|discuss|agree|tell(?: you| me)?|ask(?: you| me)?)"
ENGLISH = (
    rf"\b(?P<did>did) (?P<who>i|we|you) {_JUST}{_SAY}\b(?: about\b| to you\b| that\b)?",
    rf"\b(?:have|had|has) (?P<who>i|we|you) {_JUST}{_SAID}\b(?: about\b| to you\b| that\b)?",
    rf"\b(?:(?:as|like|that|which|what) )?(?P<who>i|we|you)(?:'ve|’ve| have| had)? {_JUST}{_SAID}\b(?: about\b| to you\b| that\b)?",
    r"\b(?:do|can|could) (?P<who>you) (?:still )?(?:remember|recall)\b(?: that\b)?|\bremind me(?: again)?\b",
)
_TOI = r"(?P<who>toi|minh|em|anh|chi|chung ta|chung toi|ban)"
_NOI = r"(?:noi|ke|nhac den|nhac toi|nhac|hoi|ban luan|ban ve|trao doi|cho biet|tra loi)"
_TRUOC = r"(?:luc truoc|luc nay|ban nay|khi nay|hoi truoc|hom truoc|lan truoc|truoc day|truoc do)"
VIETNAMESE = (
    rf"\b{_TRUOC},? {_TOI}(?: da| co| tung)* {_NOI}\b(?: voi (?:ban|toi|minh))?(?: rang| la| ve)?\b",
    rf"\b{_TOI} (?:(?:da|tung|vua|moi|co) )+{_NOI}\b(?: voi (?:ban|toi|minh))?(?: rang| la| ve)?\b",
    rf"\b{_TOI} {_NOI} (?:voi (?:ban|toi|minh) )?{_TRUOC}\b",
    r"\b(?:(?P<who>ban)|tro ly) (?:con|co) nho\b(?: rang| la)?|\bnhac lai (?:cho|giup) (?:toi|minh)\b",
)
CUES = tuple(re.compile(pattern, re.IGNORECASE) for pattern in ENGLISH), tuple(re.compile(pattern) for pattern in VIETNAMESE)
WE = frozenset(["we", "chung ta", "chung toi"])
ASKING = re.compile(r"\bask(?:ed)?\b|\bhoi\b", re.IGNORECASE)

_AUXILIARY = r"(?:is|are|was|were|am|do|does|did|can|could|may|must|should|shall|will|would|has|have|had)\b"
BEGINS = re.compile(rf"(?:and |but |so |then )?(?:(?:what|who|whom|whose|where|when|which|how|why)\b|{_AUXILIARY})")
# With a full stop these tell: "What scares him is thunder." and "Had coffee with my sister."
STATED = re.compile(rf"(?:what|who|where|how|why) (?!{_AUXILIARY}).+ (?:is|are|was|were) .+\.$|(?:had|have|was|were|must|will|am) .+\.$")
_ENDING, _OPENING = "gì nào đâu ai không chưa bao_nhiêu bao_lâu bao_giờ mấy_giờ thế_nào sao", "ai(?!_cũng) bao_nhiêu khi_nào vì_sao tại_sao"


def _ends(ending: str, opening: str) -> re.Pattern[str]:
    ending, opening = ("|".join(words.split()).replace("_", " ") for words in (ending, opening))
    return re.compile(rf"\b(?:{ending})$|^(?:{opening})\b")


ENDS, ENDS_UNMARKED = _ends(_ENDING, _OPENING), _ends(folded(_ENDING), folded(_OPENING))
WANTS = re.compile(r"\b(?:want|like|need|wish) to (?:know|see|read)|\bmuon (?:biet|xem|hoi)|\bcan biet|\bwonder\b")
TELLS = re.compile(
    r"(?:please )?(?:remember|note)(?: that)?\b|(?:i|we|my|our|i'm|i’m|i've|i’ve)\b|(?:hay )?(?:ghi nho|nho (?:rang|la|giup))\b"
    r"|(?:toi|minh|chung toi)\b|.*\bcua (?:toi|minh|chung toi)\b"
)


@dataclass(frozen=True)
class Cue:
    """A question that speaks of what was said. `question` is what is left of it without the words that say so; `roles` whose turns are
    meant; `questions`: it asks what was asked."""

    question: str
    roles: tuple[str, ...]
    questions: bool


def cue_of(question: str) -> Cue | None:
    """None for a question that does not say that it is about what was said before."""
    plain = unicodedata.normalize("NFC", question)
    for text, patterns in zip((plain, _unmarked(plain)), CUES, strict=True):
        for pattern in patterns:
            if match := pattern.search(text):
                left = " ".join(f"{plain[: match.start()]} {plain[match.end() :]}".split())
                return Cue(left, _roles((match["who"] or "i").casefold(), match.group()), bool(ASKING.search(match.group())))
    if any(pattern.search(plain) for pattern, _ in SESSIONS):
        return Cue(plain, ("user", "assistant"), False)
    return None


def _unmarked(text: str) -> str:
    """In lower case and without diacritics, letter by letter, so that a place in it is the same place in the text."""
    return "".join((folded(letter) or " ")[0] for letter in text)


def _roles(who: str, said: str) -> tuple[str, ...]:
    if who in WE:
        return ("user", "assistant")
    remembers = re.search(r"\b(?:remember|recall|nho)\b", said, re.IGNORECASE)
    return ("assistant",) if who in ("you", "ban") and not remembers else ("user",)


def is_question(turn: str) -> bool:
    """Whether a turn asks and tells nothing: what was only asked is no evidence of anything."""
    sentences = [one.strip(" \n\t\"'“”«»") for one in re.split(r"(?<=[.!?…])\s+", turn.strip())]
    return all(one.endswith("?") or _asks(unicodedata.normalize("NFC", one).casefold()) for one in sentences if one)


def _asks(sentence: str) -> bool:
    """With its marks a Vietnamese word is no other: `máy` (machine) is not `may`, `đầu` (head) not `đâu` (where)."""
    if BEGINS.match(sentence):
        return not STATED.match(sentence)
    plain = sentence.rstrip(". ")
    return bool(ENDS.search(plain) if VIETNAMESE_LETTERS.search(plain) else ENDS_UNMARKED.search(folded(plain)))


def tells(turn: str) -> bool:
    """Whether a turn tells something of the person who speaks, and asks nothing: there is something to remember, and nothing to answer."""
    plain = folded(turn).strip()
    return "?" not in turn and not is_question(turn) and bool(TELLS.match(plain)) and not WANTS.search(plain)
