"""The text that `tiny` is trained and measured on: lines, the held-out 2 %, and short sentences.

    >>> held_out("Whatever its number in the file, a line stays on its side.")
    False

Nothing but the standard library is imported: training and evaluation share these rules and little else.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z])")
DICTIONARY_ENTRY = re.compile(r"^(?P<words>[^:]+): (?P<gloss>[^;\"]+)(?P<rest>.*)$")
QUOTED = re.compile(r'"([^"]+)"')


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


def dictionary_sentences(line: str) -> list[str]:
    """A WordNet entry's gloss, its examples, and words and gloss together: three ways to say one thing."""
    entry = DICTIONARY_ENTRY.match(line)
    if entry is None:
        return []
    words, gloss = entry["words"].split(", ")[0], entry["gloss"].strip()
    return [gloss, *QUOTED.findall(entry["rest"]), f"{words}: {gloss}"]


def short_sentences(corpus: Path, seed: int, shares: dict[str, int]) -> list[str]:
    """Up to `shares[stem]` distinct sentences of 4 to 30 words from each file's training lines, shuffled."""
    found: dict[str, dict[str, None]] = {stem: {} for stem in shares}
    for stem, line in read_lines(corpus, held=False):
        if stem in shares:
            sentences = dictionary_sentences(line) if stem == "dictionary" else split_sentences(line)
            found[stem].update(dict.fromkeys(s for s in sentences if 4 <= len(s.split()) <= 30))
    rng = random.Random(seed)
    chosen = [s for stem, share in shares.items() for s in rng.sample(list(found[stem]), min(share, len(found[stem])))]
    chosen = list(dict.fromkeys(chosen))
    rng.shuffle(chosen)
    return chosen
