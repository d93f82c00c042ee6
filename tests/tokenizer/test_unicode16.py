"""The classes of characters are those of Unicode 16, which is what `tokenizers` cuts by."""

import unicodedata

import pytest

from numroberta.tokenizer.bpe import split
from numroberta.tokenizer.unicode16 import WHITE_SPACE, is_letter, is_number, is_word

SURROGATES = range(0xD800, 0xE000)


def every_character():
    return (chr(code) for code in range(0x110000) if code not in SURROGATES)


def test_assigned_characters_have_the_category_python_knows():
    wrong = [
        character
        for character in every_character()
        if (category := unicodedata.category(character)) not in ("Cn", "Co")
        and (is_letter(character), is_number(character)) != (category[0] == "L", category[0] == "N")
    ]
    assert wrong == []


def test_white_space_is_pythons_less_the_four_separators():
    pythons = {character for character in every_character() if character.isspace()}
    assert pythons - set(WHITE_SPACE) == set("\x1c\x1d\x1e\x1f")
    assert set(WHITE_SPACE) <= pythons


@pytest.mark.parametrize(
    ("character", "letter", "number", "word"),
    [
        ("A", True, False, True),
        ("_", False, False, True),
        ("7", False, True, True),
        ("½", False, True, False),  # a number, but no digit
        ("Ⅷ", False, True, True),
        ("\u0301", False, False, True),  # combining acute accent
        ("\u200d", False, False, True),  # zero-width joiner
        ("ª", True, False, True),
        ("中", True, False, True),
        ("😀", False, False, False),
        ("\U000105c0", True, False, True),  # Todhri, new in Unicode 16
        ("\U00010d40", False, True, True),  # Garay digit zero, new in Unicode 16
        ("\U000323b0", False, False, False),  # an ideograph only since Unicode 17
        ("\U0010ffff", False, False, False),
    ],
)
def test_landmarks(character, letter, number, word):
    assert (is_letter(character), is_number(character), is_word(character)) == (letter, number, word)


def library():
    tokenizers = pytest.importorskip("tokenizers")
    if tuple(map(int, tokenizers.__version__.split(".")[:3])) < (0, 21, 4):
        pytest.skip(f"tokenizers {tokenizers.__version__} is of Unicode 14; Unicode 16 came by 0.21.4")
    return tokenizers


def assert_cut_alike(characters):
    cutter = library().pre_tokenizers.ByteLevel(add_prefix_space=False)
    for start in range(0, len(characters), 4096):
        text = "".join(f"a{c}1{c}!{c}" for c in characters[start : start + 4096])
        spans = [span for _, span in cutter.pre_tokenize_str(text)]
        assert split(text) == [text[left:right] for left, right in spans], f"from {characters[start]!r} on"


@pytest.mark.slow
def test_every_assigned_code_point_is_cut_as_tokenizers_cuts_it():
    characters = list(every_character())
    in_use = [c for c in characters if c < "\U00033480" or "\U000e0000" <= c < "\U000e0200"]
    assert_cut_alike(in_use + characters[::101])


@pytest.mark.slow  # 17 s
def test_every_code_point_is_cut_as_tokenizers_cuts_it():
    assert_cut_alike(list(every_character()))


def test_word_characters_are_those_that_stop_a_single_word_token():
    tokenizers = library()
    reader = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "[Q]": 1}, unk_token="[UNK]"))
    reader.add_tokens([tokenizers.AddedToken("[Q]", single_word=True)])
    before, wrong = False, []
    for character in every_character():
        inside = is_word(character)
        if inside != before or character < "\u0300":  # both sides of every edge
            for near in {character, chr(ord(character) - 1) if ord(character) not in (0, 0xE000) else character}:
                if is_word(near) == (1 in reader.encode(f"[Q]{near}").ids):
                    wrong.append(near)
        before = inside
    assert wrong == []
