"""One self-contained HTML page that shows what a model does with texts: tokens, attention, predictions, similarity.

    show(numroberta.load("tiny"), "The cat sat on the <mask>.")     # in a notebook: the page, below the cell
    page = render(examine(numroberta.load("tiny"), ["The cat sat on the <mask>."]))     # a string, to be written

`examine` computes every number, `render` puts them into `page.html`, whose script only draws.  Numbers are rounded
here, to what the page prints, so that the page shows NumPy's own digits.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import cosine_similarity, fixed_order, heads
from numroberta.tokenizer import SYMBOL_TO_BYTE

if TYPE_CHECKING:
    from numroberta.arithmetic import TextOutput
    from numroberta.model import TextEncoder
    from numroberta.tokenizer import Encoding

Array = NDArray[Any]

MOST_TOKENS = 128  # of a text: beyond, the maps are too fine to read, and they grow with the square
MOST_TEXTS = 12
TOP = 5
FRAME = 900  # pixels of height that a notebook gives the page, which scrolls


class Page(str):
    """The page as a string of HTML, which a notebook shows as the page."""

    def _repr_html_(self) -> str:
        """A frame with the page in it: the notebook's own styles stay outside, and its scripts, too."""
        frame = f'sandbox="allow-scripts" width="100%" height="{FRAME}" style="border: 0"'
        return f'<iframe srcdoc="{html.escape(self)}" {frame}></iframe>'


def show(model: TextEncoder, *texts: str) -> Page:
    """The page about some texts: a notebook shows it where it is a cell's last line.

    Raises ValueError for no text or more than MOST_TEXTS.
    """
    return render(examine(model, texts))


def examine(model: TextEncoder, texts: Sequence[str]) -> dict[str, Any]:
    """Everything the page shows, as JSON can hold it; a text longer than MOST_TOKENS tokens is cut.

    Raises ValueError for no text or more than MOST_TEXTS.
    """
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise ValueError(f"{len(texts)} texts, expected 1 to {MOST_TEXTS} on one page")
    encodings = model.tokenizer(list(texts), max_length=min(MOST_TOKENS, model.max_length))
    rows = [np.asarray(encoding.ids, np.int64) for encoding in encodings]
    outputs = model.model.run(
        [(row, model.model.position_ids(row)) for row in rows],
        drawn,
        output_hidden_states=True,
        output_attentions=True,
    )
    vectors = [vector for vector, _, _ in outputs]  # (hidden, n) each
    words = [words_of(encoding) for encoding in encodings]
    means = np.stack([vector.mean(axis=1) for vector in vectors])  # (texts, hidden)
    return {
        "model": model.checkpoint.name,
        "layers": model.config.num_hidden_layers,
        "heads": model.config.num_attention_heads,
        "hidden": model.config.hidden_size,
        "texts": [
            {
                "text": text,
                "cut": encoding.truncated,
                "tokens": pieces(encoding, model.tokenizer.mask_token_id),
                "written": written_in_place(model, encoding),
                "attention": base64.b64encode(maps.tobytes()).decode(),
                "opens": most_telling(maps, own),
                "resting": resting(maps, np.array(encoding.special_tokens_mask, bool)),
            }
            | norms_and_turns
            for text, encoding, own, (_, maps, norms_and_turns) in zip(texts, encodings, words, outputs, strict=True)
        ],
        "similarity": rounded(cosine_similarity(means, means), 3),
        "pairs": {
            f"{a}-{b}": carried_by(vectors[a], vectors[b])
            | {"alike": alike(vectors[a], vectors[b], words[a], words[b])}
            for a, b in combinations(range(len(texts)), 2)
        },
    }


def pieces(encoding: Encoding, mask_id: int | None) -> list[dict[str, Any]]:
    """Each token as people read it, its id, its bytes, and its kind: "frame" (`<s>`, `</s>`), "mask" or "text"."""
    found = []
    for token, number, special in zip(encoding.tokens, encoding.ids, encoding.special_tokens_mask, strict=True):
        kind = "frame" if special else "mask" if number == mask_id else "text"
        spelling = "" if special else token_bytes(token).hex(" ")  # the frame is not made of the text's bytes
        found.append({"label": readable(token), "id": number, "bytes": spelling, "kind": kind})
    return found


def words_of(encoding: Encoding) -> Array:
    """Which tokens have a letter or a number in them, (n,)."""
    return np.array(
        [
            not special and any(character.isalnum() for character in readable(token))
            for token, special in zip(encoding.tokens, encoding.special_tokens_mask, strict=True)
        ]
    )


def token_bytes(token: str) -> bytes:
    """A token of byte-level BPE spells each byte as one symbol ("Ġ" is a space): those bytes.  Any other: its UTF-8."""
    if all(symbol in SYMBOL_TO_BYTE for symbol in token):
        return bytes(SYMBOL_TO_BYTE[symbol] for symbol in token)
    return token.encode()


def readable(token: str) -> str:
    """A token's text; bytes that are only a part of a character are written in hexadecimal."""
    return token_bytes(token).decode("utf-8", "backslashreplace")


def drawn(output: TextOutput) -> tuple[Array, Array, dict[str, Any]]:
    """A text's token vectors, (hidden, n) in float64, its attention maps, and its way through the layers."""
    return output.last_hidden_state.astype(np.float64), attention_maps(output), path(output)


def attention_maps(output: TextOutput) -> Array:
    """Thousandths of (layers, heads + 1, queries, keys); the last of a layer is the mean of its heads."""
    layers = np.stack(output.attentions).astype(np.float64)  # (layers, heads, n, n)
    with_mean = np.concatenate([layers, layers.mean(axis=1, keepdims=True)], axis=1)  # -> (layers, heads + 1, n, n)
    return np.rint(with_mean * 1000).astype("<u2")


def most_telling(maps: Array, words: Array) -> tuple[int, int]:
    """(layer, head) of the head that looks hardest at words further away than the next one: a page opens on it.

    The largest weight that a word gives to such a word, on average over the words; heads that only look one token back
    or ahead, or at the frame, are the common ones and show little.
    maps: (layers, heads + 1, n, n).  words: (n,), which tokens are words.
    """
    places = np.flatnonzero(words)
    if len(places) < 2:
        return 0, 0
    far = np.abs(places[:, None] - places) > 1  # (words, words)
    weights = maps[:, :-1, words][..., words] * far  # (layers, heads, words, words)
    telling = weights.max(axis=-1).mean(axis=-1)  # (layers, heads)
    layer, head = np.unravel_index(telling.argmax(), telling.shape)
    return int(layer), int(head)


def resting(maps: Array, frame: Array) -> int:
    """How many heads give the frame, `<s>` and `</s>`, more than half of the attention of the other tokens.

    maps: (layers, heads + 1, n, n).  frame: (n,), which tokens frame the text.
    """
    if frame.all():
        return 0
    given = maps[:, :-1, ~frame][..., frame].sum(axis=-1).mean(axis=-1)  # thousandths, (layers, heads)
    return int((given > 500).sum())


def path(output: TextOutput) -> dict[str, Any]:
    """Each token's ‖xₗ‖, (1 + layers, n), and the cosine of xₗ with xₗ₋₁, (layers, n)."""
    states = np.stack(output.hidden_states).astype(np.float64)  # (1 + layers, hidden, n)
    norms = np.linalg.norm(states, axis=1)  # (1 + layers, n)
    cosines = (states[1:] * states[:-1]).sum(axis=1) / (norms[1:] * norms[:-1])  # (layers, n)
    return {"norms": rounded(norms, 2), "cosines": rounded(cosines, 3)}


def written_in_place(model: TextEncoder, encoding: Encoding) -> list[dict[str, Any] | None] | None:
    """For each token what the model expects where this one is hidden behind `<mask>`; None for `<s>` and `</s>`.

    None for the text where the checkpoint has no masked-LM head.
    """
    mask_id = model.tokenizer.mask_token_id
    if heads.MASKED_LM not in heads.heads_of(model.checkpoint) or mask_id is None:
        return None
    ids = np.asarray(encoding.ids, np.int64)
    positions = model.model.position_ids(ids)
    hidden_at = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    variants = [(np.where(np.arange(len(ids)) == i, mask_id, ids), positions) for i in hidden_at]

    def expected(output: TextOutput) -> Array:
        logits = heads.masked_lm(model.model.layers, output.last_hidden_state)  # (hidden, 1) -> (vocab, 1)
        return fixed_order.softmax(logits[:, 0].astype(np.float64))

    found: list[dict[str, Any] | None] = [None] * len(ids)
    wanted = [np.array([i]) for i in hidden_at]
    for i, probs in zip(hidden_at, model.model.run(variants, expected, wanted=wanted) if variants else (), strict=True):
        found[i] = prediction(model, probs, int(ids[i]), mask_id)
    return found


def prediction(model: TextEncoder, probs: Array, own: int, mask_id: int) -> dict[str, Any]:
    """The likeliest tokens, and the place and probability of the one that stands in the text; probs: (vocab,)."""
    top = np.argsort(-probs, kind="stable")[:TOP]
    found: dict[str, Any] = {
        "top": [[readable(model.tokenizer.id_to_token(int(i)) or ""), round(float(probs[i]), 3)] for i in top]
    }
    if own != mask_id:
        found["own"] = round(float(probs[own]), 3)
        found["rank"] = int((probs > probs[own]).sum()) + 1
    return found


def carried_by(x: Array, y: Array) -> dict[str, Any]:
    """How much each pair of tokens adds to the cosine of two texts' mean vectors; (hidden, n), (hidden, m).

    cos(x̄, ȳ) = Σᵢⱼ xᵢ·yⱼ / (n m ‖x̄‖ ‖ȳ‖), exactly: "pairs" are the summands, "left" and "right" their sums by token.
    """
    n, m = x.shape[1], y.shape[1]
    parts = x.T @ y / (n * m * np.linalg.norm(x.mean(axis=1)) * np.linalg.norm(y.mean(axis=1)))  # (n, m)
    return {"pairs": rounded(parts, 4), "left": rounded(parts.sum(axis=1), 3), "right": rounded(parts.sum(axis=0), 3)}


def alike(x: Array, y: Array, words_x: Array, words_y: Array) -> list[tuple[int, int, float]]:
    """The pairs of words that have most in common beyond what each has with every word: up to TOP of (i, j, excess).

    What all tokens share, and what `the` has in common with everything, says nothing about two texts: of the summands
    pᵢⱼ of `carried_by` this ranks pᵢⱼ − p̄ᵢ − p̄ⱼ + p̄, where it is positive.  x, y: (hidden, n), (hidden, m).
    """
    n, m = x.shape[1], y.shape[1]
    parts = x.T @ y / (n * m * np.linalg.norm(x.mean(axis=1)) * np.linalg.norm(y.mean(axis=1)))  # (n, m)
    excess = parts - parts.mean(axis=1, keepdims=True) - parts.mean(axis=0) + parts.mean()
    excess = np.where(words_x[:, None] & words_y, excess, 0.0)
    order = np.argsort(-excess, axis=None, kind="stable")[:TOP]
    pairs = zip(*np.unravel_index(order, excess.shape), strict=True)
    return [(int(i), int(j), round(float(excess[i, j]), 4)) for i, j in pairs if excess[i, j] > 0]


def render(findings: dict[str, Any]) -> Page:
    """The page, as a string: HTML with style, script and numbers in it; it asks nothing of the network."""
    template = files("numroberta.view").joinpath("page.html").read_text("utf-8")
    texts = findings["texts"]
    title = texts[0]["text"][:60] + (f" and {len(texts) - 1} more" if len(texts) > 1 else "")
    # Texts are strangers: nothing in them may end the script element, so no `<` reaches it.
    numbers = json.dumps(findings, separators=(",", ":")).replace("<", r"\u003c")
    return Page(
        template.replace("{script-hash}", inline_hash(template, "script"))
        .replace("{style-hash}", inline_hash(template, "style"))
        .replace("{title}", html.escape(title))
        .replace("{findings}", numbers)  # last, so that no text can stand for a placeholder
    )


def inline_hash(template: str, element: str) -> str:
    """The Content-Security-Policy source that allows this inline element, and no other."""
    content = template.split(f"<{element}>", 1)[1].split(f"</{element}>", 1)[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def rounded(values: Array, digits: int) -> list[Any]:
    rows: list[Any] = (np.round(values.astype(np.float64), digits) + 0.0).tolist()  # −0.0 + 0.0 is 0.0
    return rows
