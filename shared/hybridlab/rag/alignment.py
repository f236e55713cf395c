"""Which word translates which: learned from pairs of sentences that say the same in two languages, without any dictionary.

IBM's Model 1 (Brown et al., The Mathematics of Statistical Machine Translation, Computational Linguistics 19(2), 1993, section 4.1): each
word of the one sentence came from one word of the other, or from none (NULL), all equally likely beforehand. EM finds P(target | source).
Words of a language that writes syllables apart (Vietnamese) are joined first, where the statistics say that they belong together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

Translations = dict[str, dict[str, float]]  # source word → target word → probability
JOIN = "_"


def word_translations(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], rounds: int = 6, fewest: int = 3) -> Translations:
    """P(target word | source word) for pairs (source words, target words), after `rounds` of EM.

    Words in fewer than `fewest` pairs are left out. Raises ValueError where there is no pair.
    """
    if not pairs:
        raise ValueError("there are no pairs of sentences to learn from")
    sources, targets = (_numbered((pair[side] for pair in pairs), fewest) for side in (0, 1))
    source: list[int] = []  # one entry for each possible link: the source word, 0 for NULL
    target: list[int] = []
    place: list[int] = []  # and which word of which target sentence it would explain
    for words, translated in pairs:
        candidates = [0, *(sources[word] + 1 for word in words if word in sources)]
        for word in translated:
            if word in targets:
                place += [place[-1] + 1 if place else 0] * len(candidates)
                source += candidates
                target += [targets[word]] * len(candidates)
    links = np.asarray(source, np.int64) * max(1, len(targets)) + np.asarray(target, np.int64)
    kinds, kind = np.unique(links, return_inverse=True)
    places = np.asarray(place, np.int64)
    of = kinds // max(1, len(targets))
    probability = np.ones(len(kinds))
    for _ in range(rounds):
        share = probability[kind]
        share /= np.bincount(places, share)[places]  # expectation: which source word explains this place, equation (16)
        count = np.bincount(kind, share, len(kinds))
        probability = count / np.bincount(of, count)[of]  # maximisation, equation (17)
    names, meant = list(sources), list(targets)
    table: Translations = {}
    for link, p in zip(kinds.tolist(), probability.tolist(), strict=True):
        s, t = divmod(link, len(targets))
        if s:
            table.setdefault(names[s - 1], {})[meant[t]] = p
    return table


def _numbered(sentences: Iterable[Sequence[str]], fewest: int) -> dict[str, int]:
    counts = Counter(word for words in sentences for word in set(words))
    return {word: n for n, word in enumerate(sorted(word for word, count in counts.items() if count >= fewest))}


def agreed(forward: Translations, backward: Translations, most: int = 6, least: float = 0.005) -> Translations:
    """Translations on which both directions agree: the root of P(t|s) · P(s|t), the best `most` of a word, made to add up to 1.

    One direction alone gives each rare word to whatever it stood beside; both together keep what belongs to each other
    (Liang, Taskar, Klein, Alignment by Agreement, NAACL 2006, multiply the two directions for the same reason).
    """
    table: Translations = {}
    for source, meant in forward.items():
        both = {t: math.sqrt(p * backward.get(t, {}).get(source, 0.0)) for t, p in meant.items() if p > least}
        best = sorted(((t, p) for t, p in both.items() if p > least), key=lambda pair: (-pair[1], pair[0]))[:most]
        total = sum(p for _, p in best)
        if best:
            table[source] = {t: p / total for t, p in best}
    return table


def collocations(sentences: Iterable[Sequence[str]], apart: Collection[str], fewest: int, least: float) -> dict[tuple[str, str], float]:
    """Neighbours that belong together, with their normalised pointwise mutual information, above `least`.

    From -1 to 1, 1 where neither stands without the other (Bouma, Normalized (Pointwise) Mutual Information in Collocation Extraction,
    GSCL 2009). Pairs met less often than `fewest` are left out, and words of `apart` and numbers are never joined.
    """
    alone, together = Counter[str](), Counter[tuple[str, str]]()
    for words in sentences:
        alone.update(words)
        together.update(pairwise(words))
    total = sum(alone.values())
    found = {}
    for (first, second), count in together.items():
        if count < fewest or any(part in apart or part.isdigit() for part in (first, second)):
            continue
        information = math.log(count * total / (alone[first] * alone[second])) / -math.log(count / total)
        if information > least:
            found[first, second] = information
    return found


def join(words: Sequence[str], found: Mapping[tuple[str, str], float]) -> list[str]:
    """The words with neighbours joined, the strongest first: `hệ thống tệp` becomes `hệ_thống tệp`."""
    joined = list(words)
    while len(joined) > 1:
        strength, at = max((found.get(pair, -math.inf), -i) for i, pair in enumerate(pairwise(joined)))
        if strength == -math.inf:
            break
        joined[-at : 2 - at] = [joined[-at] + JOIN + joined[1 - at]]
    return joined
