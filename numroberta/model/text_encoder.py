"""`load`, and `TextEncoder`: text in, vectors or answers out."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.arithmetic import (
    POOLINGS,
    PRECISIONS,
    Roberta,
    TextOutput,
    heads,
    normalize as normalized,
    pool,
    quantize,
    similarity,
    similarity_pairwise,
)
from numroberta.checkpoint import Checkpoint, open_checkpoint
from numroberta.model import stream, tasks
from numroberta.model.saving import save_folder
from numroberta.model.sentence import read_sentence_settings
from numroberta.model.stream import WINDOW
from numroberta.tokenizer import (
    AGGREGATIONS as WORD_AGGREGATIONS,
    BLANKS,
    Tokenizer,
    TokenVectors,
    Window,
    WordTokens,
    WordVectors,
    tokenize_words,
    windows_with_context,
    word_vectors,
    words_in_text,
)

Array = NDArray[Any]
TextOrPair = str | tuple[str, str] | dict[str, str]
TextsOrPairs = TextOrPair | Sequence[TextOrPair]


class TextEncoder:
    """Text in, vectors or answers out: a checkpoint with its tokenizer.  `numroberta.load` makes one.

    max_length: the longest text, in tokens, that is read at once; `SentenceTransformer` calls it `max_seq_length`.
    sentence: how a text becomes one vector, from the files of a sentence-transformers folder.
    """

    def __init__(self, checkpoint: Checkpoint, model: Roberta):
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.model = model
        self.tokenizer = Tokenizer.load(checkpoint.model_folder)
        self.sentence = read_sentence_settings(checkpoint)
        longest = self.sentence.max_seq_length or self.tokenizer.max_length
        self.max_length = min(longest, self.config.max_length)

    # --- Sentence vectors ----------------------------------------------------------------------------------------

    def encode(
        self,
        sentences: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        pooling: str | None = None,
        **refused: object,
    ) -> Any:
        """Sentence vectors: (hidden,) for a string, (texts, hidden) for several; `SentenceTransformer.encode`.

        prompt: text put in front of each text; prompt_name: one that the folder names.
        batch_size: most texts computed side by side in a thread; the numbers do not depend on it beyond rounding.
        output_value: "token_embeddings" gives a list of (tokens, hidden) instead.
        precision: "float32", or "int8", "uint8", "binary", "ubinary": see `numroberta.arithmetic.quantize`.
        convert_to_numpy: False gives a list of vectors.
        truncate_dim: keep so many dimensions.
        pooling: None for what the folder says (the mean over the tokens, with <s> and </s>, where it says nothing); or
            one of `numroberta.arithmetic.POOLINGS`, and then nothing else that the folder says is done to the vector.
        A text of more than `max_length` tokens is cut, with one warning that says how many were.
        Raises ValueError for arguments that need PyTorch or another device, naming them.
        """
        refuse_what_numpy_has_not(convert_to_tensor, device, refused)
        if output_value not in ("sentence_embedding", "token_embeddings"):
            raise ValueError(
                f"output_value={output_value!r}, expected 'sentence_embedding' or 'token_embeddings'; "
                "encode_tokens gives tokens and offsets with the vectors"
            )
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision!r}, expected one of {', '.join(map(repr, PRECISIONS))}")
        single = isinstance(sentences, str)
        texts = texts_of(sentences)
        if output_value == "token_embeddings":
            rows = self._token_embeddings(texts, self._prompt(prompt, prompt_name), batch_size)
            return rows[0] if single else rows
        blocks = self.encode_stream(
            texts,
            batch_size,
            normalize_embeddings,
            pooling,
            prompt=prompt,
            prompt_name=prompt_name,
            truncate_dim=truncate_dim,
        )
        vectors: Array = np.empty((len(texts), self._dimension(pooling, truncate_dim)), self.model.dtype)
        done = 0
        with progress(len(texts), bool(show_progress_bar)) as advance:
            for block in blocks:
                vectors[done : done + len(block)] = block
                done += len(block)
                advance(len(block))
        if precision != "float32" and len(vectors):
            vectors = quantize(vectors, precision)
        if single:
            return vectors[0]
        return vectors if convert_to_numpy else list(vectors)

    def encode_stream(
        self,
        sentences: Iterable[str],
        batch_size: int = 32,
        normalize_embeddings: bool = False,
        pooling: str | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate_dim: int | None = None,
        long: str = "truncate",
    ) -> Iterator[Array]:
        """Blocks of sentence vectors, (up to `stream.WINDOW`, hidden) each, in order, from any iterable of texts.

        Reads a window of texts, yields its vectors, and only then reads on: memory does not grow with their number.
        long: what becomes of a text of more than `max_length` tokens.  "truncate": its first tokens only, with one
            warning at the end; "split": the mean of overlapping parts, weighted by their tokens; "error": ValueError.
        Other arguments as in `encode`.
        """
        embedder = self.embedder(batch_size, normalize_embeddings, pooling, prompt, prompt_name, truncate_dim, long)
        return self._blocks(sentences, embedder)

    def embedder(
        self,
        batch_size: int = 32,
        normalize_embeddings: bool = False,
        pooling: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate_dim: int | None = None,
        long: str = "truncate",
    ) -> Embedder:
        """What `encode_stream` does to each window of texts, for who makes the windows; same arguments."""
        return Embedder(
            self,
            batch_size=batch_size,
            normalize=normalize_embeddings,
            pooling=pooling,
            prompt=self._prompt(prompt, prompt_name),
            dimension=self._dimension(pooling, truncate_dim),
            long=long,
        )

    def _dimension(self, pooling: str | None, truncate_dim: int | None) -> int:
        """Dimensions of the vectors that `encode` gives."""
        whole = self.config.hidden_size if pooling else self.sentence.dimension or self.config.hidden_size
        wanted = truncate_dim if truncate_dim is not None else self.sentence.truncate_dim
        if wanted is not None and wanted < 1:
            raise ValueError(f"truncate_dim={wanted}, expected 1 to {whole}")
        return whole if wanted is None else min(whole, wanted)

    def _prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """The text in front of each text: `prompt`, or the one of this name, or the folder's default."""
        if prompt is not None:
            return prompt
        name = prompt_name if prompt_name is not None else self.sentence.default_prompt_name
        if name is None:
            return ""
        if name not in self.sentence.prompts:
            known = ", ".join(map(repr, self.sentence.prompts)) or "none"
            raise ValueError(f"prompt_name={name!r}: this model names {known}; give the text itself as prompt=")
        return self.sentence.prompts[name]

    def _sentence_ids(
        self, texts: Sequence[str], prompt: str, truncation: bool = True
    ) -> tuple[list[list[int]], list[int]]:
        """(ids of each text, how many of its tokens were cut off), with the prompt and in the case the model wants."""
        if prompt:
            texts = [prompt + text for text in texts]
        if self.sentence.do_lower_case:
            texts = [text.lower() for text in texts]
        return self.tokenizer.encode_ids(texts, max_length=self.max_length, truncation=truncation)

    def _blocks(self, sentences: Iterable[str], embedder: Embedder) -> Iterator[Array]:
        texts = cut = left_out = 0
        for window in stream.windows(sentences, lambda text: len(text) if isinstance(text, str) else 0):
            refuse_other_than_strings(window, texts)
            read = embedder.read(window)
            if embedder.long == "error" and any(read.beyond):
                i = next(i for i, beyond in enumerate(read.beyond) if beyond)
                raise ValueError(f"sentences[{texts + i}] {embedder.too_long(read.tokens[i])}")
            yield embedder.compute(read)
            texts += len(window)
            cut += sum(map(bool, read.beyond))
            left_out += sum(read.beyond)
        if embedder.long == "truncate":
            warn_of_cuts(cut, texts, left_out, self.max_length)

    def vectors(
        self,
        ids: Sequence[Sequence[int]],
        batch_size: int = 32,
        pooling: str | None = None,
        skip: int = 0,
        merge: Callable[[Array], Array] | None = None,
    ) -> Array:
        """Sentence vectors of token ids, a list per text -> (texts, hidden).

        skip: tokens at the start not to pool.  merge: what is done to the pooled vectors before the folder's steps.
        """
        modes = self.sentence.pooling if pooling is None else (pooling,)
        texts = self._rows(ids)
        # The last layer need not compute the tokens that nobody reads.
        wanted = [np.zeros(1, np.int64)] * len(texts) if modes == ("cls",) and not skip else None
        vectors: Array = np.stack(
            self.model.run(
                texts, lambda output: pool(output.last_hidden_state, modes, skip), wanted=wanted, most_texts=batch_size
            )
        )
        if merge is not None:
            vectors = merge(vectors)
        for step in self.sentence.steps if pooling is None else ():
            vectors = step(vectors)
        return vectors

    def _rows(self, ids: Iterable[Sequence[int]]) -> list[tuple[Array, Array]]:
        """Ids with their positions, as `Roberta.run` takes them."""
        rows = [np.asarray(row, np.int64) for row in ids]
        return [(row, self.model.position_ids(row)) for row in rows]

    def _token_embeddings(self, texts: Sequence[str], prompt: str, batch_size: int) -> list[Array]:
        refuse_other_than_strings(texts)
        ids, dropped = self._sentence_ids(texts, prompt)
        rows = self.model.run(self._rows(ids), lambda output: output.last_hidden_state.T.copy(), most_texts=batch_size)
        warn_of_cuts(sum(map(bool, dropped)), len(texts), sum(dropped), self.max_length)
        return rows

    def encode_query(self, sentences: str | Sequence[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the folder's prompt for queries, where it has one."""
        return self._encode_for(("query",), sentences, prompt_name, options)

    def encode_document(self, sentences: str | Sequence[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the folder's prompt for documents, where it has one."""
        return self._encode_for(("document", "passage", "corpus"), sentences, prompt_name, options)

    def _encode_for(
        self, names: tuple[str, ...], sentences: str | Sequence[str], prompt_name: str | None, options: dict[str, Any]
    ) -> Any:
        if prompt_name is None and options.get("prompt") is None:
            prompt_name = next((name for name in names if name in self.sentence.prompts), None)
        return self.encode(sentences, prompt_name, **options)

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Array:
        """How alike two sets of vectors are, (n, hidden), (m, hidden) -> (n, m): cosine, or what the folder says."""
        a, b = np.atleast_2d(embeddings1), np.atleast_2d(embeddings2)
        return similarity(a, b, self.sentence.similarity_fn_name)

    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Array:
        """How alike each vector is to the one at its place in the other set, (n, hidden), (n, hidden) -> (n,)."""
        a, b = np.atleast_2d(embeddings1), np.atleast_2d(embeddings2)
        return similarity_pairwise(a, b, self.sentence.similarity_fn_name)

    @property
    def max_seq_length(self) -> int:
        """`max_length`, under the name that `SentenceTransformer` has for it."""
        return self.max_length

    @max_seq_length.setter
    def max_seq_length(self, length: int) -> None:
        if not 3 <= length <= self.config.max_length:
            raise ValueError(f"max_seq_length={length}, expected 3 to {self.config.max_length}")
        self.max_length = length

    def get_sentence_embedding_dimension(self) -> int:
        """Dimensions of the vectors that `encode` gives."""
        return self._dimension(None, None)

    # --- Token and word vectors ----------------------------------------------------------------------------------

    def encode_tokens(self, text: str, layers: Sequence[int] = (-1,)) -> TokenVectors:
        """The tokens of a text with their characters and vectors: .tokens .offsets .vectors, <s> and </s> included.

        layers: which hidden states, 0 the embeddings, -1 the last; of several the mean.  A text of more than
        `max_length` tokens is read in windows that overlap, and no token is lost.
        """
        encoding = self.tokenizer(text, truncation=False)
        before, after = self._frame
        body = encoding.ids[len(before) : len(encoding) - len(after)]
        return TokenVectors(encoding.tokens, encoding.offsets, self._read_tokens([body], layers, 1)[0])

    @overload
    def encode_words(
        self, words: str, aggregation: str = "first", layers: Sequence[int] = (-1,), batch_size: int = 32
    ) -> WordVectors: ...

    @overload
    def encode_words(
        self,
        words: Sequence[str] | Sequence[Sequence[str]],
        aggregation: str = "first",
        layers: Sequence[int] = (-1,),
        batch_size: int = 32,
    ) -> Any: ...

    def encode_words(
        self,
        words: str | Sequence[str] | Sequence[Sequence[str]],
        aggregation: str = "first",
        layers: Sequence[int] = (-1,),
        batch_size: int = 32,
    ) -> Any:
        """A vector a word: .words .offsets .vectors, as Spark NLP's `RoBertaEmbeddings` gives for its tokens.

        words: a text, cut as its tokenizer cuts it (see `words.words_in_text`); or the words of a text, offsets then
            being those in `" ".join(words)`; or several such lists, which gives a list.
        aggregation: "first", the vector of a word's first piece, or "mean", that of all its pieces.
        layers: which hidden states, 0 the embeddings, -1 the last; of several the mean: [-4, -3, -2, -1].
        A text of more than `max_length` pieces is read in windows that overlap, and no word is lost.
        Raises ValueError for a word that is empty or has white space in it.
        """
        if aggregation not in WORD_AGGREGATIONS:
            raise ValueError(f"aggregation={aggregation!r}, expected {' or '.join(map(repr, WORD_AGGREGATIONS))}")
        if isinstance(words, str):
            encoding = self.tokenizer(words, truncation=False)
            return self._word_vectors([words_in_text(words, encoding)], aggregation, layers, batch_size)[0]
        texts: list[Any] = list(words)
        several = bool(texts) and not isinstance(texts[0], str)
        tokenizer, blanks = self._word_tokenizer
        rows = [tokenize_words(row, tokenizer, blanks) for row in (texts if several else [texts])]
        found = self._word_vectors(rows, aggregation, layers, batch_size)
        return found if several else found[0]

    def _word_vectors(
        self, rows: Sequence[WordTokens], aggregation: str, layers: Sequence[int], batch_size: int
    ) -> list[WordVectors]:
        skip = len(self._frame[0])
        found = []
        for first in range(0, len(rows), WINDOW // 4):  # token vectors of a few texts at a time are in memory
            some = rows[first : first + WINDOW // 4]
            read = self._read_tokens([row.ids for row in some], layers, batch_size)
            for row, vectors in zip(some, read, strict=True):
                own = word_vectors(vectors[skip:], row.members, aggregation)
                found.append(WordVectors(row.words, row.offsets, own))
        return found

    def _read_tokens(self, bodies: Sequence[list[int]], layers: Sequence[int], batch_size: int) -> list[Array]:
        """Vectors of <s>, the tokens and </s> of texts of any length, (2 + tokens, hidden) each."""
        depth = self.config.num_hidden_layers
        chosen = [layer + depth + 1 if layer < 0 else layer for layer in layers]
        if not chosen or not all(0 <= layer <= depth for layer in chosen):
            raise ValueError(f"layers={list(layers)}, expected numbers from {-depth - 1} to {depth}, at least one")
        last_only = chosen == [depth]

        def use(output: TextOutput) -> Array:
            if last_only:
                return output.last_hidden_state.T.copy()  # (hidden, tokens) -> (tokens, hidden)
            return np.mean([output.hidden_states[layer] for layer in chosen], axis=0).T

        before, after = self._frame
        size = self.max_length - len(before) - len(after)
        parts = [windows_with_context(len(body), size) for body in bodies]
        ids = [
            [*before, *body[part.start : part.stop], *after]
            for body, spans in zip(bodies, parts, strict=True)
            for part in spans
        ]
        read = iter(self.model.run(self._rows(ids), use, output_hidden_states=not last_only, most_texts=batch_size))
        return [self._joined([(part, next(read)) for part in spans]) for spans in parts]

    def _joined(self, read: list[tuple[Window, Array]]) -> Array:
        """Windows, each (2 + tokens, hidden), to one text: (2 + tokens, hidden)."""
        skip = len(self._frame[0])
        kept = [vectors[skip + part.first - part.start : skip + part.last - part.start] for part, vectors in read]
        (_, opening), (part, closing) = read[0], read[-1]
        return np.concatenate([opening[:skip], *kept, closing[skip + part.stop - part.start :]])

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special ids before and after a text: ([<s>], [</s>])."""
        encoding = self.tokenizer("a")
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]

    @cached_property
    def _word_tokenizer(self) -> tuple[Tokenizer, set[int]]:
        """The tokenizer that puts a space in front of each word, and the ids of the pieces that are only that space."""
        blanks = {number for token in BLANKS if (number := self.tokenizer.token_to_id(token)) is not None}
        return self.tokenizer.for_words(), blanks

    # --- Saving --------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write this model as a new folder, which `load`, transformers and sentence-transformers read.

        Args:
            folder: Its name; it appears when everything is written.
            dtype: "float32", "float16", "bfloat16" or "float64", to which the weights are rounded; None keeps that of
                their file.

        Raises:
            CheckpointError: The folder is there already, or cannot be written.
            ValueError: A weight is too large for float16.
        """
        save_folder(self.checkpoint, self.tokenizer, self.max_length, Path(folder), dtype)

    # --- Heads ---------------------------------------------------------------------------------------------------

    def fill_mask(
        self, text: str | Sequence[str], top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Any]:
        """The likeliest tokens for each <mask>: dicts of score, token (its id), token_str and sequence.

        A list of texts gives a list of results; a text with several masks gives a list of lists, each mask being
        filled as if alone.  targets: score only these words; " word" with its space is what stands inside a sentence.
        Raises ValueError for a text without a mask or of more than `max_length` tokens.
        """
        heads.require(self.checkpoint, heads.MASKED_LM)
        tasks.check_top_k(top_k)
        among = None if targets is None else tasks.target_ids(self.tokenizer, targets)
        texts = [text] if isinstance(text, str) else list(text)
        rows = [self._masked_ids(one) for one in texts]
        masks = [np.flatnonzero(np.asarray(row) == self.tokenizer.mask_token_id) for row in rows]
        logits = self.model.run(
            self._rows(rows),
            lambda output: heads.masked_lm(self.model.layers, output.last_hidden_state),
            wanted=masks,
        )
        found: list[Any] = []
        for row, scores in zip(rows, logits, strict=True):
            filled = tasks.fillings(self.tokenizer, row, scores, top_k, among)
            found.append(filled[0] if len(filled) == 1 else filled)
        return found[0] if isinstance(text, str) else found

    def _masked_ids(self, text: str) -> list[int]:
        tokenizer = self.tokenizer
        ids = tokenizer(text, truncation=False).ids
        if tokenizer.mask_token_id not in ids:
            raise ValueError(f"no {tokenizer.mask_token} in {text!r:.80}: put it where a word is to be found")
        if len(ids) > self.max_length:
            raise ValueError(
                f"{text!r:.40} has {len(ids)} tokens, this model reads {self.max_length}: give a part of it"
            )
        return ids

    def classify(
        self,
        texts: TextsOrPairs,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        batch_size: int = 32,
    ) -> list[Any]:
        """Labels with their scores, the highest first: [{"label": …, "score": …}, …]; a list of texts gives a list.

        texts: a text; a pair (text, text) or {"text": …, "text_pair": …}; or a list of either.
        top_k: how many labels, None for all.
        function_to_apply: "softmax", "sigmoid" or "none"; None for what the checkpoint's problem_type asks for.
        A text of more than `max_length` tokens is cut, with a warning.
        """
        heads.require(self.checkpoint, heads.SEQUENCE)
        tasks.check_top_k(top_k)
        if function_to_apply not in (None, *tasks.FUNCTIONS):
            known = ", ".join(map(repr, tasks.FUNCTIONS))
            raise ValueError(f"function_to_apply={function_to_apply!r}, expected {known} or None")
        single = isinstance(texts, (str, tuple, dict))
        rows = [tasks.text_or_pair(text) for text in ([texts] if single else texts)]
        ids, dropped = self.tokenizer.encode_ids(rows, max_length=self.max_length)
        warn_of_cuts(sum(map(bool, dropped)), len(rows), sum(dropped), self.max_length)
        logits = self.model.run(
            self._rows(ids),
            lambda output: heads.sequence(self.model.layers, output.last_hidden_state)[:, 0],
            wanted=[np.zeros(1, np.int64)] * len(ids),
            most_texts=batch_size,
        )
        found = [tasks.label_scores(row, self.config, top_k, function_to_apply) for row in logits]
        return found[0] if single else found

    def tag(
        self,
        text: str | Sequence[str],
        aggregation: str = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[Any]:
        """Labelled tokens, or entities: dicts of entity (or entity_group), score, word, start and end.

        aggregation: "none", a dict a token (with its index); "simple", neighbours with the same tag together;
            "first", "average", "max": one label a word first, from its first token, the mean or the surest.
        stride: read a text of more than `max_length` tokens in windows that share so many tokens; without it the text
            is cut, with a warning.
        """
        heads.require(self.checkpoint, heads.TOKEN)
        if aggregation not in tasks.AGGREGATIONS:
            known = ", ".join(map(repr, tasks.AGGREGATIONS))
            raise ValueError(f"aggregation={aggregation!r}, expected one of {known}")
        if stride is not None and aggregation == "none":
            raise ValueError(f"stride={stride} joins entities of several windows, and aggregation='none' has none")
        texts = [text] if isinstance(text, str) else list(text)
        windowed = stride is not None
        encodings = self.tokenizer(
            texts, max_length=self.max_length, stride=stride or 0, return_overflowing_tokens=windowed
        )
        if not windowed:
            dropped = [encoding.truncated for encoding in encodings]
            warn_of_cuts(sum(map(bool, dropped)), len(texts), sum(dropped), self.max_length)
        parts = [[encoding, *encoding.overflowing] for encoding in encodings]
        logits = iter(
            self.model.run(
                self._rows(part.ids for row in parts for part in row),
                lambda output: heads.token(self.model.layers, output.last_hidden_state),
                most_texts=batch_size,
            )
        )
        found = [
            tasks.entities(
                one,
                [(part, next(logits)) for part in row],
                self.tokenizer,
                self.config.id2label,
                aggregation,
                ignore_labels,
            )
            for one, row in zip(texts, parts, strict=True)
        ]
        return found[0] if isinstance(text, str) else found

    def answer(
        self,
        question: str,
        context: str,
        top_k: int = 1,
        *,
        max_answer_len: int = 15,
        doc_stride: int | None = None,
        max_seq_len: int | None = None,
        align_to_words: bool = True,
        handle_impossible_answer: bool = False,
    ) -> Any:
        """Where in the context the answer stands: a dict of score, start, end and answer; for top_k > 1 a list.

        max_answer_len: most tokens of an answer.
        max_seq_len, doc_stride: a long context is read in windows of at most 384 tokens, question included, that
            share 128 (or half a window, if that is less).
        align_to_words: let an answer begin and end where a word does.
        handle_impossible_answer: offer "" too, with the score of there being no answer.
        """
        heads.require(self.checkpoint, heads.SPAN)
        tasks.check_top_k(top_k)
        for name, text in (("question", question), ("context", context)):
            if not text.strip():
                raise ValueError(f"the {name} is empty: give a text")
        if max_answer_len < 1:
            raise ValueError(f"max_answer_len={max_answer_len}, expected 1 or more")
        length = min(self.max_length, 384) if max_seq_len is None else max_seq_len
        if length > self.max_length:
            raise ValueError(f"max_seq_len={length}, this model reads {self.max_length} tokens")
        encoding = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=min(length // 2, 128) if doc_stride is None else doc_stride,
            return_overflowing_tokens=True,
        )
        parts = [encoding, *encoding.overflowing]
        logits = self.model.run(
            self._rows(part.ids for part in parts),
            lambda output: heads.span(self.model.layers, output.last_hidden_state),
        )
        found = tasks.answers(
            context,
            list(zip(parts, logits, strict=True)),
            top_k=top_k,
            max_answer_len=max_answer_len,
            align_to_words=align_to_words,
            handle_impossible_answer=handle_impossible_answer,
        )
        return found[0] if top_k == 1 else found


class Embedder:
    """Sentence vectors of one window of texts after the other, in two steps: `compute(read(texts))`.

    Raises ValueError for a pooling or a way with long texts that there is not, when it is made.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        batch_size: int,
        normalize: bool,
        pooling: str | None,
        prompt: str,
        dimension: int,
        long: str,
    ):
        if pooling is not None and pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}, expected one of {', '.join(map(repr, POOLINGS))}, or None")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}, expected at least 1")
        if long not in stream.LONG:
            raise ValueError(f"long={long!r}, expected one of {', '.join(map(repr, stream.LONG))}")
        self.encoder = encoder
        self.batch_size, self.normalize, self.pooling = batch_size, normalize, pooling
        self.prompt, self.dimension, self.long = prompt, dimension, long
        self.head = len(encoder._sentence_ids([prompt], "")[0][0]) - 1  # <s> and the prompt: all but </s>
        self.skip = self.head if prompt and not encoder.sentence.include_prompt else 0

    def read(self, texts: Sequence[str]) -> stream.Window:
        """Token ids of a window; `beyond` says which texts were too long."""
        return stream.tokenized(
            texts,
            lambda distinct: self.encoder._sentence_ids(distinct, self.prompt, truncation=False)[0],
            max_length=self.encoder.max_length,
            head=self.head,
            split=self.long == "split",
        )

    def compute(self, window: stream.Window) -> Array:
        """The texts' vectors, (texts, hidden)."""
        vectors = self.encoder.vectors(
            window.parts,
            self.batch_size,
            self.pooling,
            self.skip,
            merge=lambda pooled: stream.merged(pooled, window, self.skip),
        )[window.which, : self.dimension]  # (distinct texts, hidden) -> (texts, dimension)
        return normalized(vectors) if self.normalize else vectors

    def too_long(self, tokens: int) -> str:
        """Why long="error" refuses a text."""
        return f'has {tokens:,} tokens, and {self.encoder.max_length} fit: "truncate" or "split" takes it'


def refuse_what_numpy_has_not(convert_to_tensor: bool, device: object, others: dict[str, object]) -> None:
    """Raises ValueError for arguments of `SentenceTransformer.encode` that mean PyTorch, other devices or processes."""
    if convert_to_tensor:
        raise ValueError("convert_to_tensor=True needs PyTorch: wrap the result, torch.from_numpy(encode(…))")
    if device not in (None, "cpu"):
        raise ValueError(f"device={device!r}: numroberta computes on the CPU; load(…, num_threads=N) sets its threads")
    if "pool" in others or "chunk_size" in others:
        raise ValueError("pool and chunk_size are for several processes: numroberta uses all cores from one")
    if others:
        raise TypeError(f"encode has no argument {', '.join(map(repr, others))}")


def refuse_other_than_strings(texts: Sequence[object], first: int = 0) -> None:
    """TypeError for what is no text; `first` is the number of the first one."""
    for i, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            raise TypeError(f"sentences[{i}] is {type(text).__name__}, expected a string")


def warn_of_cuts(cut: int, texts: int, left_out: int, max_length: int) -> None:
    """One warning for all texts that were too long."""
    if cut:
        warnings.warn(
            f"{cut:,} of {texts:,} texts have more than {max_length} tokens: only the first {max_length} were read, "
            f"{left_out:,} tokens were left out",
            stacklevel=_stacklevel_of_the_caller(),
        )


def _stacklevel_of_the_caller() -> int:
    """The `stacklevel` at which a warning of the calling function points out of this package, at the user's line."""
    level, frame = 0, inspect.currentframe()
    while frame and frame.f_globals["__name__"].startswith("numroberta."):
        level, frame = level + 1, frame.f_back
    return level


def texts_of(sentences: object) -> list[str]:
    """A list of texts; raises TypeError for what is neither a text nor a collection of any."""
    if isinstance(sentences, bytes) or not isinstance(sentences, Iterable):
        raise TypeError(f"sentences is {type(sentences).__name__}, expected a string or a list of strings")
    return [sentences] if isinstance(sentences, str) else list(sentences)


def load(
    name: str | os.PathLike[str] = "tiny",
    *,
    dtype: str = "float32",
    num_threads: int | None = None,
    deterministic: bool = False,
    reproducible: bool = False,
    low_memory: bool = False,
    revision: str | None = None,
) -> TextEncoder:
    """A model with its tokenizer: "tiny" (built in), a folder, or a name on the hub ("distilroberta-base").

    dtype: "float32", or "float64" for reference values (twice the memory, and slower).
    num_threads: None for all cores this process may use.
    deterministic: a text's vector is the same to the last bit alone, in any batch, with any number of threads; sums
        are more exact, too.  Without it, vectors agree to 1e-5.  (Where threadpoolctl is missing, BLAS keeps its own
        threads, and their number must be the same.)
    reproducible: the same bits on every machine too: whatever its processor, BLAS, operating system and byte order.
        Takes twice the time; more exact.  See `numroberta.arithmetic.reproducible`.
    low_memory: keep one layer's weights in memory; the same numbers.
    revision: a branch, tag or commit of the hub.
    Raises CheckpointError, a ValueError that says what was found and what to do.
    """
    checkpoint = open_checkpoint(name, revision=revision)
    model = Roberta(
        checkpoint,
        dtype=dtype,
        num_threads=num_threads,
        deterministic=deterministic,
        reproducible=reproducible,
        low_memory=low_memory,
    )
    return TextEncoder(checkpoint, model)


@contextmanager
def progress(total: int | None, show: bool) -> Iterator[Callable[[int], object]]:
    """A function that moves a bar on; none is drawn unless asked for, or where tqdm is missing."""
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            show = False
    if not show:
        yield lambda count: None
        return
    with tqdm(total=total, unit=" texts", smoothing=0) as bar:
        yield bar.update
