"""Learn the English–Vietnamese dictionary of hybridlab.rag from parallel text, and write it with its card.

Needs a network, Debian's apt-get, and 15 minutes.

python scripts/make_dictionary.py
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from hybridlab.rag.alignment import JOIN, Translations, agreed, collocations, join, word_translations
from hybridlab.rag.dictionary import LONGEST, PACKAGED, segmented
from nltk.stem.porter import PorterStemmer
from parallel_text import Pair, fetch, pairs
from rich.console import Console

GLOSSARY = Path(__file__).with_name("office_glossary.tsv")  # our own: everyday words of an office, which programs' catalogues lack
GLOSSARY_TIMES = 12  # how often each of its entries is seen, so that it outweighs what stood beside a word by chance
JOINS = ((8, 0.35), (15, 0.45))  # two rounds, so that words of four syllables can form: fewest, least
APART = frozenset(  # never part of a word: they stand beside everything
    "bạn bị các có của cho cũng đã để đó được gặp hãy hoặc khi không là một mọi này nào những nó rằng sẽ tại thì và về với".split()  # noqa: SIM905
)
LEAST = 0.05  # a translation less likely than this is left out
FEWEST = 3  # pairs with a word, for it to be learned
console = Console(highlight=False)


def main() -> None:
    packages = fetch()
    found = pairs()
    console.print(f"{len(found):,} pairs from {len(packages)} packages")
    glossary = [tuple(tuple(side.casefold().split()) for side in line.split("\t")) for line in GLOSSARY.read_text("utf-8").splitlines()]
    found += [(english, vietnamese) for vietnamese, english in glossary] * GLOSSARY_TIMES
    forms = common_forms(found)
    english = [[forms.get(word, word) for word in source] for source, _ in found]
    vietnamese = joined([list(target) for _, target in found])
    console.print("words are joined")
    to_english = word_translations(list(zip(vietnamese, english, strict=True)), fewest=FEWEST)
    to_vietnamese = word_translations(list(zip(english, vietnamese, strict=True)), fewest=FEWEST)
    tables = {"vi": pruned(agreed(to_english, to_vietnamese)), "en": pruned(agreed(to_vietnamese, to_english))}
    used = {word for meant in tables["vi"].values() for word in meant} | set(tables["en"])
    held = {"forms": {word: form for word, form in sorted(forms.items()) if form in used and word != form}, **tables}
    PACKAGED.write_text("{\n" + ",\n".join(f' "{name}": {{\n{one_a_line(part)}\n }}' for name, part in held.items()) + "\n}\n", "utf-8")
    write_card(packages, len(found), {name: len(part) for name, part in held.items()})


def common_forms(found: list[Pair]) -> dict[str, str]:
    """Each English word → the most frequent word with its stem (Porter, Program 14(3), 1980): `packages` → `package`."""
    counts = Counter(word for source, _ in found for word in source)
    stemmer = PorterStemmer(PorterStemmer.ORIGINAL_ALGORITHM)
    families: dict[str, list[str]] = {}
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        families.setdefault(stemmer.stem(word), []).append(word)
    return {word: family[0] for family in families.values() for word in family}


def joined(sentences: list[list[str]]) -> list[list[str]]:
    """Syllables joined to words: what the statistics join, kept where it is a word often enough, and found again as `Dictionary` does."""
    words = sentences
    for fewest, least in JOINS:
        belong = {
            pair: strength
            for pair, strength in collocations(words, APART, fewest, least).items()
            if sum(part.count(JOIN) + 1 for part in pair) <= LONGEST
        }
        words = [join(sentence, belong) for sentence in words]
    known = {word for word, count in Counter(word for sentence in words for word in sentence).items() if JOIN in word and count >= 5}
    return [segmented(sentence, known) for sentence in sentences]


def pruned(table: Translations) -> Translations:
    kept = {word: {t: round(p, 3) for t, p in meant.items() if p >= LEAST} for word, meant in table.items() if not word.isdigit()}
    return {word: meant for word, meant in kept.items() if meant}


def one_a_line(part: dict) -> str:
    return ",\n".join(
        f"  {json.dumps(word, ensure_ascii=False)}: {json.dumps(meant, ensure_ascii=False)}" for word, meant in sorted(part.items())
    )


def write_card(packages: list[str], count: int, sizes: dict[str, int]) -> None:
    listed = "\n".join(f"- {package}" for package in packages)
    digest = hashlib.sha256(PACKAGED.read_bytes()).hexdigest()
    PACKAGED.with_suffix(".md").write_text(
        f"""# The English–Vietnamese dictionary

| | |
| --- | --- |
| file | `dictionary.json`, {PACKAGED.stat().st_size / 1e6:.2f} MB, JSON |
| SHA-256 | `{digest}` |
| holds | {sizes["vi"]:,} Vietnamese and {sizes["en"]:,} English words, each with up to six translations and their probabilities |
| | {sizes["forms"]:,} forms of English words |
| used for | searching passages in the other language (`structured_query.py`); it is no dictionary to read |
| made by | `python scripts/make_dictionary.py`: IBM Model 1 in both directions over {count:,} pairs (`alignment.py`) |
| licence | Apache-2.0, as the project |

**Where it comes from.** Word statistics of translated programs' message catalogues and of three translated books, and of our own
`scripts/office_glossary.tsv`. The texts have licences of their own (BSD, MIT, Apache, MPL, LGPL, GPL); no sentence of them is in the
file, only how often words met. None of the evaluation's documents or questions is among them.

**What it is bad at.** Words that programs don't speak of, beyond the glossary's; names of people and places; Vietnamese typed without
diacritics; a word that means two things gets the computer's meaning first (`phép`: permission before leave of absence).

Packages it was learned from:

{listed}
""",
        "utf-8",
    )
    console.print(f"{PACKAGED.name}: sha256 {digest}")


if __name__ == "__main__":
    main()
