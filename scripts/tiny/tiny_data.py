"""The text that `tiny` is trained and measured on: lines, the held-out 2 %, and short texts for the teacher.

    >>> held_out("Whatever its number in the file, a line stays on its side.")
    False
    >>> clauses("He came early; she was late, since the train had stopped.")
    ['He came early', 'she was late', 'since the train had stopped.']
    >>> question("It is raining in the mountains.")
    'Is it raining in the mountains?'

Nothing but the standard library is imported: training and evaluation share these rules and little else.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z])")
CLAUSE_END = re.compile(r"\s*(?:[;:,]|--|—)\s*")
DICTIONARY_ENTRY = re.compile(r"^(?P<words>[^:]+): (?P<gloss>[^;\"]+)(?P<rest>.*)$")
QUOTED = re.compile(r'"([^"]+)"')
STATEMENT = re.compile(
    r"^(?P<who>He|She|It|They|We|You|This|That|There) "
    r"(?P<verb>is|was|are|were|can|could|will|would|should|must|has|had|have) (?P<rest>[^;:?!]+)\.$"
)
TYPING = 0.05  # of the words of a text that is typed badly


def held_out(line: str) -> bool:
    """True for the fixed 2 % of lines that training never sees; a repeated line falls on one side only."""
    return int.from_bytes(hashlib.sha1(line.strip().encode()).digest()[:8], "big") % 50 == 0


def read_lines(corpus: Path, *, held: bool) -> Iterator[tuple[str, str]]:
    """(file stem, line) for each non-empty line of `corpus/*.txt` on the asked side of `held_out`."""
    files = sorted(corpus.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"{corpus} holds no .txt files; --corpus must name a folder of plain text")
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip() and held_out(line) == held:
                yield file.stem, line.strip()


def split_sentences(line: str) -> list[str]:
    return [part.strip() for part in SENTENCE_END.split(line) if part.strip()]


def clauses(sentence: str) -> list[str]:
    """The parts of a sentence of at least three words, where it has several."""
    parts = [part for part in CLAUSE_END.split(sentence) if len(part.split()) >= 3]
    return parts if len(parts) > 1 else []


def question(sentence: str) -> str | None:
    """A statement turned round, where that needs no grammar."""
    found = STATEMENT.match(sentence)
    return found and f"{found['verb'].capitalize()} {found['who'].lower()} {found['rest']}?"


def dictionary_texts(line: str) -> list[str]:
    """A WordNet entry's gloss, its examples, and words and gloss together: three ways to say one thing."""
    entry = DICTIONARY_ENTRY.match(line)
    if entry is None:
        return []
    words, gloss = entry["words"].split(", ")[0], entry["gloss"].strip()
    return [gloss, *QUOTED.findall(entry["rest"]), f"{words}: {gloss}"]


def texts_of(stem: str, line: str) -> Iterator[str]:
    """The short texts in a line: of a dictionary's entry, else sentences, their clauses and questions of them."""
    if stem == "dictionary":
        yield from dictionary_texts(line)
        return
    for sentence in split_sentences(line):
        yield sentence
        yield from clauses(sentence)
        if turned := question(sentence):
            yield turned


def short_texts(corpus: Path, seed: int, shares: dict[str, int]) -> list[str]:
    """Up to `shares[stem]` distinct texts of 3 to 30 words from each file's training lines, shuffled."""
    found: dict[str, dict[str, None]] = {}
    for stem, line in read_lines(corpus, held=False):
        found.setdefault(stem, {}).update(
            dict.fromkeys(text for text in texts_of(stem, line) if 3 <= len(text.split()) <= 30)
        )
    rng = random.Random(seed)
    chosen: dict[str, None] = {}
    for stem, texts in found.items():
        chosen.update(dict.fromkeys(rng.sample(list(texts), min(shares.get(stem, len(texts)), len(texts)))))
    shuffled = list(chosen)
    rng.shuffle(shuffled)
    return shuffled


def typed_badly(text: str, rng: random.Random) -> str:
    """The same text from another hand: without capitals or the full stop, with two letters changed over here and there.

    >>> typed_badly("Hello there, my dear friends.", random.Random(1))
    'hello there, my dear friends'
    """
    words = (text.lower() if rng.random() < 0.8 else text).split()
    for i, word in enumerate(words):
        if len(word) > 4 and rng.random() < TYPING:
            place = rng.randrange(1, len(word) - 2)
            words[i] = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return " ".join(words).removesuffix(".") if rng.random() < 0.5 else " ".join(words)
