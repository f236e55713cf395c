"""Sentences of a document that speak to a machine: "ignore all previous instructions". They are data; here they are told apart and flagged.

A flag is for people: it says what to look at, and is neither a proof nor the defence. The defence is that hidden text is in no chunk,
that a source stands between marks that it can't forge, and that no tool or right hangs on an answer.
"""

from __future__ import annotations

import re
import unicodedata

from hybridlab.rag.parse import Parsed
from hybridlab.rag.sentences import sentence_spans

from assistant.store.words import folded

INSTRUCTIONS, HIDDEN_INSTRUCTIONS = "instructions", "hidden-instructions"

# All are read in lower case and without diacritics, sentence by sentence.
_DROP = r"(?<!not )\b(?:ignore|disregard|forget|override|bypass|discard|do not follow|don't follow|stop following)\b"
_EARLIER = r"\b(?:previous|prior|earlier|above|preceding|foregoing|existing|original|system|developer|safety)\b"
_ORDERS = r"\b(?:instructions?|prompts?|directions?|directives?|guidelines?|rules?|orders|commands?|messages?|context)\b"
_MACHINE = r"\b(?:ai|assistant|chat ?bot|language model|llm|gpt|model|bot)s?\b"
_SAY = r"\b(?:reply|respond|answer|say|write|output|print|claim|tell|recommend)\b"
_SHOW = r"\b(?:reveal|print|repeat|show|output|leak|disclose)\b"
_QUOTED = r"(?:\b(?:word|phrase|text|string)\b|[\"'“‘«:])"
ENGLISH = (
    rf"{_DROP}.{{0,40}}{_EARLIER}.{{0,30}}{_ORDERS}",
    rf"{_DROP}.{{0,12}}\b(?:all|any|every|your|my|these)\b.{{0,20}}{_ORDERS}",
    rf"{_DROP}.{{0,20}}\b(?:everything|all)\b.{{0,30}}\b(?:above|before|told|said|so far)\b",
    rf"\b(?:note|message|instructions?|attention|important|notice) (?:to|for) (?:the |any |every |all )?{_MACHINE}",
    r"\b(?:you are|act as|pretend to be|behave as|you're) (?:now|from now on) (?:an?|the)\b",
    r"\b(?:new|updated|real|actual|true|hidden|secret) (?:system )?(?:instructions?|prompt|directives?)\s*[:：]",
    r"(?:^|[\[<#*])\s*system(?: prompt| message| override)?\s*[:\]>]",
    rf"^(?:dear |hey |attention,? )?(?:ai |helpful )?{_MACHINE}\s*[:,]\s*\w+",
    rf"{_SHOW}.{{0,30}}\b(?:(?:system|hidden) prompt|your (?:instructions|prompt|rules))\b",
    rf"{_SAY}.{{0,12}}\b(?:only|exactly|nothing but|just)\b.{{0,30}}{_QUOTED}",
    rf"\b(?:if|when|since) you are an? (?:large )?{_MACHINE}",
    rf"\bwhen (?:asked|answering|responding|summari[sz]ing)\b.{{0,40}}\b(?:always|instead|must)\b.{{0,20}}{_SAY}",
    r"\bdo not (?:tell|inform|mention|reveal)\b.{0,30}\busers?\b",
    r"<\|?\s*/?(?:im_start|im_end|endoftext|system|user|assistant|start_of_turn|end_of_turn|eot_id)\b|\[/?inst\]",
)
_BO_QUA = r"\b(?:bo qua|phot lo|quen|dung lam theo|khong lam theo|huy bo|lo di)\b"
_CHI_DAN = r"\b(?:huong dan|chi dan|chi thi|menh lenh|yeu cau|quy tac|loi nhac|lenh)\b"
_MAY = r"\b(?:tro ly(?: ai| ao| tri tue nhan tao)?|mo hinh ngon ngu|chatbot|he thong ai|ai)\b"
_NOI = r"(?:tra loi|noi|viet|in ra|xuat ra|dap)\b"
VIETNAMESE = (
    rf"{_BO_QUA}.{{0,30}}{_CHI_DAN}.{{0,40}}\b(?:truoc|tren|he thong|ban dau|cua ban|da cho|da nhan)\b",
    rf"{_BO_QUA}.{{0,12}}\b(?:moi|tat ca|toan bo|het)\b.{{0,16}}{_CHI_DAN}",
    rf"\b(?:gui|danh cho|luu y|chi thi|thong bao|lenh)\b.{{0,16}}{_MAY}\s*[:,]",
    rf"^{_MAY}\s*[:,]",
    r"\b(?:tu bay gio|ke tu bay gio|bay gio|tu gio)\b,? ban (?:la|phai|se|hay)\b",
    rf"\b(?:chi|chi duoc|chi can) (?:duoc )?{_NOI}.{{0,40}}(?:\b(?:cum tu|tu|dong chu|chuoi|duy nhat)\b|[\"'“‘«:])",
    r"\b(?:tiet lo|in ra|cho xem|lap lai|hien thi)\b.{0,20}\b(?:loi nhac he thong|huong dan he thong|huong dan cua ban|system prompt)\b",
    rf"\b(?:neu|khi) ban la (?:mot )?{_MAY}",
    r"\b(?:dung|khong)(?: duoc)? (?:noi|cho|bao|tiet lo)\b.{0,20}\bnguoi dung\b",
    r"(?:^|[\[<#*])\s*he thong\s*[:\]>]",
)
PATTERNS = tuple(re.compile(pattern) for pattern in ENGLISH + VIETNAMESE)

# Each pattern needs one of these words, and few sentences have one: looking for them first reads a document five times faster.
_WORD = re.compile(r"[a-z_]+")
NEEDED = frozenset(
    """ignore disregard forget override bypass discard follow following now instruction instructions prompt directive directives rules
    ai ais assistant assistants bot bots chatbot chatbots model models llm llms gpt gpts system
    reply respond answer say write output print claim tell recommend asked answering responding summarizing summarising user users
    im_start im_end endoftext start_of_turn end_of_turn eot_id inst
    qua phot quen theo huy lo ly ngon gio loi noi viet ra dap nhac huong nguoi thong""".split()  # noqa: SIM905
)


def instructions(text: str) -> list[tuple[int, int]]:
    """The sentences of `text` that look like instructions to a machine, as spans in order."""
    return [(a, b) for a, b in sentence_spans(text, 0, len(text)) if _speaks_to_a_machine(text[a:b])]


def _speaks_to_a_machine(sentence: str) -> bool:
    plain = " ".join(folded(unicodedata.normalize("NFKC", sentence)).split())
    return not NEEDED.isdisjoint(_WORD.findall(plain)) and any(pattern.search(plain) for pattern in PATTERNS)


def is_suspicious(text: str) -> bool:
    """Whether a chunk or quote holds such a sentence."""
    return bool(instructions(text))


def warnings_of(parsed: Parsed) -> tuple[str, ...]:
    """What a person should know of a document: the parser's flags, and whether its visible or hidden text holds instructions."""
    seen = any(is_suspicious(page.text[: page.visible_end]) for page in parsed.pages)
    hidden = any(is_suspicious(page.text[span.start : span.end]) for page in parsed.pages for span in page.hidden)
    return parsed.flags + (INSTRUCTIONS,) * seen + (HIDDEN_INSTRUCTIONS,) * hidden
