"""Texts to vectors, one per text or one per token of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import PRECISIONS, TextOutput, normalize, one_of, pool, quantize
from numroberta.model.bar import progress
from numroberta.model.blocks import Block, blocks, characters, merged, tokenized, with_positions
from numroberta.model.options import MISSING, EncodeOptions
from numroberta.model.texts import check_texts, is_missing, refuse_missing, texts_of, warn_of_cuts

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]


class Embedder:
    """Vectors of one block of texts after the other, in two steps: `compute(tokenize(texts))`.

    dimension: of the vectors.  long: what becomes of a text of more than `max_length` tokens.
    Raises ValueError, when it is made, for options that this model cannot follow.
    """

    def __init__(self, encoder: TextEncoder, options: EncodeOptions):
        settings = encoder.sentence
        self.encoder, self.options, self.long = encoder, options, options.long
        self.modes = settings.pooling if options.pooling is None else (options.pooling,)
        self.steps = settings.steps if options.pooling is None else ()
        self.prompt = settings.chosen_prompt(options.prompt, options.prompt_name)
        whole = encoder.config.hidden_size if options.pooling else settings.dimension or encoder.config.hidden_size
        self.dimension = settings.cut_dimension(whole, options.truncate_dim)
        if options.pooling is None:
            settings.require_vectors()
        before, after = encoder.tokenizer.around  # <s>, </s>
        self.tail = len(after)
        self.head = len(self.ids([""])[0]) - self.tail if self.prompt else len(before)  # <s> and the prompt
        self.skip = self.head if self.prompt and not settings.include_prompt else 0
        self.texts = self.cut = self.left_out = 0

    def tokenize(self, texts: Sequence[str]) -> Block:
        """Token ids of a block; `beyond` says which texts were too long."""
        return tokenized(
            texts,
            self.ids,
            max_length=self.encoder.max_length,
            head=self.head,
            tail=self.tail,
            split=self.long == "split",
        )

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Uncut, with the prompt, in the case the model wants."""
        if self.prompt:
            texts = [self.prompt + text for text in texts]
        if self.encoder.sentence.do_lower_case:
            texts = [text.lower() for text in texts]
        return self.encoder.tokenizer.encode_ids(texts, truncation=False)[0]

    def compute(self, block: Block, done: Callable[[], object] = lambda: None) -> Array:
        """The texts' vectors, (texts, dimension).  done: called after each window, on the thread that computed it."""
        model, modes, skip = self.encoder.model, self.modes, self.skip

        def vector_of(output: TextOutput) -> Array:
            vector = _pooled(output.last_hidden_state, modes, skip)
            done()
            return vector

        ids = with_positions(model, block.windows)
        # The last layer need not compute the tokens that nobody reads.
        first_alone = modes == ("cls",) and not skip and all(block.windows)
        wanted = [np.zeros(1, np.int64)] * len(ids) if first_alone else None
        vectors: Array = np.stack(
            model.run(
                ids,
                vector_of,
                wanted=wanted,
                most_texts=self.options.batch_size,
            )
        )  # (windows, modes · hidden)
        if block.owner[-1] + 1 < len(block.windows):
            vectors = merged(vectors, block, skip)
        for step in self.steps:
            vectors = step(vectors)
        vectors = vectors[block.which, : self.dimension]  # (distinct texts, d) -> (texts, dimension)
        return normalize(vectors) if self.options.normalize_embeddings else vectors

    def checked(self, texts: Sequence[object], name: str) -> Block:
        """`tokenize` for texts as a user gave them, of an argument called `name`, and a count of what was cut.

        Raises TypeError and ValueError with the text's index among all that this embedder was given.
        """
        check_texts(texts, name, self.texts)
        block = self.tokenize(texts)  # type: ignore[arg-type]  # they are strings now
        if self.long == "error" and any(block.beyond):
            i = next(i for i, beyond in enumerate(block.beyond) if beyond)
            raise ValueError(f"{name}[{self.texts + i}] {self.too_long(block.tokens[i])}")
        self.count(block)
        return block

    def count(self, block: Block) -> None:
        """Add a block to what `warn_of_cuts` tells."""
        self.texts += len(block.tokens)
        self.cut += sum(map(bool, block.beyond))
        self.left_out += sum(block.beyond)

    def too_long(self, tokens: int) -> str:
        """Why long="error" refuses a text."""
        return f'has {tokens:,} tokens, and {self.encoder.max_length} fit: "truncate" or "split" takes it'

    def warn_of_cuts(self) -> None:
        """One warning for all texts that were cut so far."""
        if self.long == "truncate":
            warn_of_cuts(self.cut, self.texts, self.left_out, self.encoder.max_length)


def _pooled(x: Array, modes: Sequence[str], skip: int) -> Array:
    """`pool`, and zeros for an empty text that its tokenizer puts no special tokens around."""
    return pool(x, modes, skip) if x.shape[1] else np.zeros(len(modes) * len(x), x.dtype)


def encode(
    encoder: TextEncoder,
    sentences: object,
    options: EncodeOptions,
    output_value: str | None,
    precision: str,
    convert_to_numpy: bool,
    show_progress_bar: bool,
) -> Array | list[Array]:
    """What `TextEncoder.encode` returns."""
    if output_value not in ("sentence_embedding", "token_embeddings"):
        raise ValueError(
            f"output_value={output_value!r}, expected 'sentence_embedding' or 'token_embeddings'; "
            "encode_tokens gives tokens and offsets with the vectors"
        )
    one_of("precision", precision, PRECISIONS)
    texts = list(texts_of(sentences, "sentences"))
    missing = [index for index, text in enumerate(texts) if not isinstance(text, str) and is_missing(text)]
    if options.missing is None:
        refuse_missing(texts, missing, "sentences")
    if options.missing == "nan" and precision != "float32":
        raise ValueError(
            f"missing='nan' with precision={precision!r}: such numbers have no NaN; missing='zero' has one"
        )
    for index in missing:
        texts[index] = ""
    embedder = Embedder(encoder, options)
    if output_value == "token_embeddings":
        rows = _token_embeddings(embedder, texts, precision, show_progress_bar)
        return rows[0] if isinstance(sentences, str) else rows
    vectors: Array = np.empty((len(texts), embedder.dimension), encoder.model.dtype)
    with progress(len(texts), show_progress_bar) as advance:
        for some in blocks(texts, characters):
            done = embedder.texts
            vectors[done : done + len(some)] = embedder.compute(embedder.checked(some, "sentences"))
            advance(len(some))
    embedder.warn_of_cuts()
    if precision != "float32":
        own = quantize(np.delete(vectors, missing, axis=0), precision)  # what is missing is in no range
        vectors = np.zeros((len(texts), own.shape[1]), own.dtype)
        vectors[np.delete(np.arange(len(texts)), missing)] = own
    elif options.missing:
        vectors[missing] = MISSING[options.missing]
    if isinstance(sentences, str):
        return vectors[0]
    return vectors if convert_to_numpy else list(vectors)


def encode_stream(embedder: Embedder, sentences: Iterable[object]) -> Iterator[Array]:
    """What `TextEncoder.encode_stream` returns."""
    for texts in blocks(sentences, characters):
        yield embedder.compute(embedder.checked(texts, "sentences"))
    embedder.warn_of_cuts()


def vectors_of_ids(embedder: Embedder, ids: Sequence[Sequence[int]]) -> Array:
    """What `TextEncoder.vectors` returns."""
    rows = list(range(len(ids)))
    return embedder.compute(Block([list(row) for row in ids], rows, rows, [len(row) for row in ids], [0] * len(ids)))


def _token_embeddings(embedder: Embedder, texts: Sequence[object], precision: str, show: bool) -> list[Array]:
    """The vectors of each text's tokens, (tokens, hidden); of one precision, whose ranges are those of all tokens."""
    for option in ("pooling", "normalize_embeddings", "truncate_dim", "missing"):
        if value := getattr(embedder.options, option):
            raise ValueError(
                f"{option}={value!r} is for one vector per text: it does nothing with output_value='token_embeddings'"
            )
    model = embedder.encoder.model
    rows: list[Array] = []
    with progress(len(texts), show) as advance:
        for some in blocks(texts, characters):
            block = embedder.checked(some, "sentences")
            distinct = model.run(
                with_positions(model, block.windows),
                lambda output: output.last_hidden_state.T.copy(),  # (hidden, tokens) -> (tokens, hidden)
                most_texts=embedder.options.batch_size,
            )
            rows += [distinct[number].copy() for number in block.which]
            advance(len(some))
    embedder.warn_of_cuts()
    if precision == "float32" or not rows:
        return rows
    return np.split(quantize(np.concatenate(rows), precision), np.cumsum([len(row) for row in rows])[:-1])
