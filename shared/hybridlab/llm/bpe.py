"""Byte-pair encoding: which neighbours become one token, learned from a text and applied to new ones.

Notable:
- Text is cut into words first (`split_words`), and no token crosses a word: a space belongs to the word that it precedes.
- A word is its bytes. Tokens 0 … 255 are the bytes in GPT-2's order, and every merge makes one new token.
- A merge's rank is its token: the lower the token, the earlier it was learned, and the earlier it is applied.

Source: Sennrich et al., 1508.07909, algorithm 1 (on characters); Radford et al., 2019 (on bytes).
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from hybridlab.exercise import exercise
from hybridlab.llm.byte_alphabet import BYTE_TOKENS

FIRST_MERGED = 256  # tokens below are single bytes

# GPT-2's pattern; a digit always stands alone, as in SmolLM2: 2024 is four tokens, and arithmetic sees digits. A run of
# spaces leaves its last one to the word behind it, but not to a digit.
WORD = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+")


def split_words(text: str) -> list[str]:
    """Cut a text into words; joined, they are the text again.

    >>> split_words("I've 24 cats")
    ['I', "'ve", ' ', '2', '4', ' cats']
    """
    return WORD.findall(text)


def utf8(word: str) -> bytes:
    """The bytes of a word. Raises ValueError if it holds half a character (a lone surrogate), which has no bytes."""
    try:
        return word.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{word[error.start]!r} is half a character and has no bytes: read the text with errors='replace'") from None


def count_words(texts: Iterable[str]) -> Counter[tuple[int, ...]]:
    """How often each word occurs, as tokens of one byte each: what `train_bpe` learns from."""
    counts = Counter(word for text in texts for word in split_words(text))
    return Counter({tuple(BYTE_TOKENS[byte] for byte in utf8(word)): count for word, count in counts.items()})


def merge_pair(tokens: Sequence[int], pair: tuple[int, int], new: int) -> tuple[int, ...]:
    """Put `new` wherever `pair` stands, from left to right: (a, a, a) with pair (a, a) becomes (new, a)."""
    merged: list[int] = []
    place = 0
    while place < len(tokens):
        if tuple(tokens[place : place + 2]) == pair:
            merged.append(new)
            place += 2
        else:
            merged.append(tokens[place])
            place += 1
    return tuple(merged)


@exercise
def train_bpe(words: Mapping[tuple[int, ...], int], n_merges: int) -> list[tuple[int, int]]:
    """Learn which pairs of neighbours to merge: `n_merges` times the most frequent one.

    `words` maps each word, a tuple of tokens below 256, to the number of times that it occurs in the text. Merge number i
    (from 0) makes token 256 + i, in all words at once, and the next merge is chosen among the pairs that then stand
    there. A pair's frequency is the number of places where it stands, over all words, each word as often as it occurs
    (places may overlap: "aaa" holds the pair (a, a) twice). Among equally frequent pairs the smallest one is taken, as
    tuples compare. `merge_pair` does one merge in one word.

    Returns: the merged pairs in the order in which they were learned; fewer than `n_merges` if no pair is left.
        `words` itself stays as it is.
    Raises: ValueError if n_merges is negative.
    Source: Sennrich et al., 1508.07909, algorithm 1; the tie rule is that of Hugging Face's `tokenizers`.
    """
    if n_merges < 0:
        raise ValueError(f"n_merges must be 0 or more, got {n_merges}")
    texts, times = list(words), list(words.values())
    frequency: Counter[tuple[int, int]] = Counter()
    places = defaultdict(set)  # pair -> the words in which it stands, or stood
    for i, text in enumerate(texts):
        for pair in pairwise(text):
            frequency[pair] += times[i]
            places[pair].add(i)
    heap = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    while heap and len(merges) < n_merges:
        count, best = heapq.heappop(heap)
        if count == 0 or -count != frequency[best]:
            continue  # an old entry: the pair's frequency has changed since
        changed = set()
        for i in places.pop(best):
            old, texts[i] = texts[i], merge_pair(texts[i], best, FIRST_MERGED + len(merges))
            for text, sign in ((old, -1), (texts[i], 1)):
                for pair in pairwise(text):
                    frequency[pair] += sign * times[i]
                    places[pair].add(i)
                    changed.add(pair)
        for pair in changed:
            heapq.heappush(heap, (-frequency[pair], pair))
        merges.append(best)
    return merges


@exercise
def merge_word(tokens: Sequence[int], merges: Mapping[tuple[int, int], int]) -> list[int]:
    """Merge a word's tokens as far as the learned merges go.

    `merges` maps each pair that may be merged to the token that it becomes. Again and again, of all neighbours that may be
    merged, those are merged whose new token is the lowest (it was learned first); of several such places the leftmost.
    A merge can make new pairs possible. It ends when no neighbours can be merged. `tokens` itself stays as it is.

    A word of n tokens takes about n · log n steps, so that a "word" of 100,000 letters is no trap.

    Source: Sennrich et al., 1508.07909, section 3.2; the queue is that of Hugging Face's `tokenizers`.
    """
    tokens, end = list(tokens), len(tokens)
    after = [place + 1 for place in range(end)]  # the living neighbours of each place
    before = [place - 1 for place in range(end)]
    heap = [(merges[pair], place) for place, pair in enumerate(pairwise(tokens)) if pair in merges]
    heapq.heapify(heap)
    while heap:
        new, left = heapq.heappop(heap)
        right = after[left]
        if right >= end or merges.get((tokens[left], tokens[right])) != new:
            continue  # an old entry: one of the two was merged with another neighbour since
        tokens[left], tokens[right] = new, -1
        after[left] = after[right]
        if after[left] < end:
            before[after[left]] = left
        for first, second in ((before[left], left), (left, after[left])):
            if first >= 0 and second < end and (tokens[first], tokens[second]) in merges:
                heapq.heappush(heap, (merges[tokens[first], tokens[second]], first))
    return [token for token in tokens if token >= 0]
