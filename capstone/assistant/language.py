"""Which of the assistant's two languages a text is in, and the sentences that the assistant says itself, in both."""

from __future__ import annotations

import re
import unicodedata

from hybridlab.llm.grounded_prompt import NO_EVIDENCE, Language

from assistant.store.words import folded

# Letters that Vietnamese has and that English borrows at most one of in a word.
VIETNAMESE = re.compile("[ăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]", re.IGNORECASE)
VIETNAMESE_SHARE = 0.2  # of a passage's words with such letters: a name in an English text is no Vietnamese text
ACCENTED = re.compile("[àáâãèéêìíòóôõùúýăđĩũơưạ-ỹ]", re.IGNORECASE)  # all that it has: French and Spanish have some of them too
COMMON_WITHOUT_MARKS = frozenset(
    {
        "la", "gi", "cua", "khong", "duoc", "bao", "nhieu", "nhu", "the", "nao", "cho", "toi", "cac", "nhung", "va", "trong", "voi",
        "ngay", "nam", "phai", "chinh", "sach", "nghi", "phep", "thi", "sao", "ai", "vi", "mot", "nguoi", "khi", "bi", "goi", "lau",
        "dau", "lam", "tu", "lai", "nhan", "vao", "tien", "tra", "mat", "lan", "ra", "tai", "loi", "doi", "vien", "phan", "muc", "gio",
        "chi", "gia", "truoc", "chuyen", "di", "muon", "dat", "luc", "sau", "thang", "hoi", "xe", "dinh", "khoa", "phong", "hoc", "lenh",
        "tep", "trinh", "dia", "thuoc", "xoa", "luu", "tren", "truong", "kiem", "tinh", "phieu", "hong", "chung", "dieu", "chuong",
        "khoan", "hieu", "nay", "neu", "luong", "phien", "tuan", "biet", "buoi", "giao", "dien", "thuong", "thanh", "hanh", "viet",
        "nhom",
    }
)
NEVER_VIETNAMESE = frozenset(
    {
        "the", "is", "of", "what", "how", "who", "when", "where", "which", "why", "for", "and", "does", "did", "many", "much", "are",
        "was", "were", "has", "have", "had", "with", "by", "that", "it", "since", "must", "should", "will", "would", "there", "their",
        "his", "her", "he", "she", "they", "from", "at", "as", "if", "after", "before", "during", "often", "your", "mr", "mrs", "ms",
    }
)  # English words that are none in Vietnamese
NAMES = 2  # words of Vietnamese names in an English question, for each of these English words

SENTENCES: dict[str, dict[Language, str]] = {
    "no_evidence": NO_EVIDENCE,
    "no_documents": {
        "en": "There is no document to look into yet: upload one, then ask again.",
        "vi": "Chưa có tài liệu nào để tra cứu: hãy tải lên một tài liệu rồi hỏi lại.",
    },
    "not_read_yet": {
        "en": "Your documents are still being read: ask again in a moment.",
        "vi": "Tài liệu của bạn vẫn đang được đọc: hãy hỏi lại sau ít phút.",
    },
    "not_said": {
        "en": "I found nothing about this in our conversations, nor in your documents.",
        "vi": "Tôi không tìm thấy thông tin về điều này trong các cuộc trò chuyện của chúng ta, cũng như trong tài liệu của bạn.",
    },
    "noted": {
        "en": "I will remember this. Your documents say nothing about it.",
        "vi": "Tôi sẽ nhớ điều này. Tài liệu của bạn không nói gì về nó.",
    },
}
SPEAKERS: dict[str, dict[Language, str]] = {
    "user": {"en": "the user said", "vi": "người dùng nói"},
    "assistant": {"en": "the assistant said", "vi": "trợ lý nói"},
}


def passage_language(text: str) -> Language:
    """The language that most of a passage is in."""
    words = re.findall(r"[^\W\d_]+", text)
    return "vi" if sum(bool(VIETNAMESE.search(word)) for word in words) > VIETNAMESE_SHARE * len(words) else "en"


def language_of(text: str) -> Language:
    """The language of a question; English where nothing speaks for Vietnamese. Typed without diacritics counts too, and a name from the
    other language does not: *How far is Đà Nẵng from here?* is English."""
    text = re.sub(r"`[^`]*`", " ", unicodedata.normalize("NFC", text))  # code is of no language
    words = re.findall(r"[^\W\d_]+", text.casefold())
    english = sum(word in NEVER_VIETNAMESE for word in words)
    accented = sum(bool(ACCENTED.search(word)) for word in words)
    if VIETNAMESE.search(text) or accented > 1:
        return "vi" if accented > NAMES * english else "en"
    vietnamese = sum(word in COMMON_WITHOUT_MARKS for word in re.findall(r"[a-z]+", folded(text)))
    return "vi" if vietnamese >= 2 and vietnamese > english else "en"


def say(sentence: str, language: Language) -> str:
    return SENTENCES[sentence][language]
