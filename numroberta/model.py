"""`load`, `TextEncoder` (text in, vectors out) and `Roberta` (ids in, hidden states out)."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import encoder, schedule
from numroberta.checkpoint import Checkpoint, open_checkpoint
from numroberta.encoder import Cut, Share, Texts, Trace, Weights
from numroberta.pooling import POOLINGS, pool
from numroberta.pooling import normalize as normalized
from numroberta.tokenizer import Tokenizer

Array = NDArray[Any]
R = TypeVar("R")

# Texts tokenized and sorted together; what is in memory at a time is a window, never all texts.
WINDOW = 1024


class RobertaOutput(NamedTuple):
    """What `Roberta` returns: transformers' names, order and shapes; b texts of at most n tokens; padding is zero."""

    last_hidden_state: Array  # (b, n, hidden)
    pooler_output: Array | None  # (b, hidden); None where the checkpoint has no pooler
    hidden_states: tuple[Array, ...] | None  # 1 + layers, (b, n, hidden) each, if asked for
    attentions: tuple[Array, ...] | None  # a layer each, (b, heads, n queries, n keys), if asked for


class Read(NamedTuple):
    """What is left of one text at the end of the forward pass, for whoever asked."""

    last: Array  # (hidden, tokens), or the wanted ones; read or copy it at once: the memory is used again
    hidden_states: list[Array]  # 1 + layers, (hidden, tokens) each, if asked for
    attentions: list[Array]  # a layer each, (heads, queries, keys), if asked for


class Roberta:
    """The encoder of a checkpoint: `transformers.RobertaModel` without gradients."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        dtype: str = "float32",
        num_threads: int | None = None,
        deterministic: bool = False,
        low_memory: bool = False,
    ):
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype!r}, expected 'float32' or 'float64'")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads}, expected at least 1, or None for the cores this process has")
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.dtype = np.dtype(dtype)
        self.num_threads = num_threads or schedule.available_cores()
        self.deterministic = deterministic
        self.low_memory = low_memory
        tensors = {name: tensor.astype(self.dtype, copy=False) for name, tensor in checkpoint.tensors.items()}
        self.tensors = tensors
        self.weights = Weights.from_tensors(tensors, self.config)
        self._cut = self._exact_cut() if deterministic else self._fast_cut()

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> RobertaOutput:
        """Token ids to hidden states.

        input_ids: (b, n) integers.  attention_mask: (b, n), 1 = a token, 0 = padding, anywhere; None: all 1.
        Raises ValueError for another shape, an id outside the vocabulary, or more tokens than there are positions.
        """
        ids, mask = self._checked(input_ids, attention_mask)
        positions = self.position_ids(ids)
        b, n = ids.shape
        texts = [(ids[i, mask[i]], positions[i, mask[i]]) for i in range(b)]
        reads = self.read(
            texts,
            lambda read: read._replace(last=read.last.copy()),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )

        def batch_first(parts: Iterable[Array]) -> Array:
            out = np.zeros((b, n, self.config.hidden_size), self.dtype)
            for i, part in enumerate(parts):
                out[i, mask[i]] = part.T  # (hidden, tokens) -> (tokens, hidden)
            return out

        def attention(layer: int) -> Array:
            out = np.zeros((b, self.config.num_attention_heads, n, n), self.dtype)
            for i, read in enumerate(reads):
                out[i][:, np.outer(mask[i], mask[i])] = read.attentions[layer].reshape(len(out[i]), -1)
            return out

        layers = self.config.num_hidden_layers
        last = batch_first(read.last for read in reads)
        states = range(layers + 1) if output_hidden_states else ()
        return RobertaOutput(
            last_hidden_state=last,
            pooler_output=self.pool(last[:, 0]),
            hidden_states=tuple(batch_first(read.hidden_states[k] for read in reads) for k in states) or None,
            attentions=tuple(attention(layer) for layer in range(layers)) if output_attentions else None,
        )

    def position_ids(self, ids: Array) -> Array:
        """Rows of the position table, (…, n) -> (…, n): tokens count from pad_token_id + 1, padding is not counted."""
        is_token = ids != self.config.pad_token_id
        return self.config.pad_token_id + np.cumsum(is_token, axis=-1) * is_token

    def pool(self, first: Array) -> Array | None:
        """tanh(W x + b) of each text's first token, (b, hidden) -> (b, hidden): `transformers.RobertaPooler`."""
        if self.weights.pooler is None:
            return None
        weight, bias = self.weights.pooler
        return np.tanh(first @ weight.T + bias[:, 0])

    def read(
        self,
        texts: Sequence[tuple[Array, Array]],
        use: Callable[[Read], R],
        *,
        wanted: Sequence[Array] | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        most_texts: int = 32,
    ) -> list[R]:
        """Run texts, (ids, positions) each, and use what comes out of each: the results in the texts' order.

        wanted: for each text the tokens whose last hidden state will be read; the last layer skips the others.
        """

        def job(group: list[int]) -> Callable[[Share], list[R]]:
            chosen = None if wanted is None else [wanted[i] for i in group]
            trace = Trace([] if output_hidden_states else None, [] if output_attentions else None)
            return lambda share: self._run_group([texts[i] for i in group], use, share, chosen, trace)

        lengths = [len(ids) for ids, _ in texts]
        several = 1 if self.low_memory else self.num_threads
        batches = schedule.groups(lengths, most_texts, alone=self.deterministic, at_least=several)
        found = schedule.run(
            [job(group) for group in batches], self.num_threads, self.dtype, one_at_a_time=self.low_memory
        )
        results: dict[int, R] = {}
        for group, values in zip(batches, found, strict=True):
            results.update(zip(group, values, strict=True))
        return [results[i] for i in range(len(texts))]

    def _run_group(
        self,
        texts: list[tuple[Array, Array]],
        use: Callable[[Read], R],
        share: Share,
        wanted: list[Array] | None,
        trace: Trace,
    ) -> list[R]:
        spans = encoder.side_by_side([len(ids) for ids, _ in texts])
        batch = Texts(np.concatenate([ids for ids, _ in texts]), np.concatenate([p for _, p in texts]), spans)
        columns = wanted and [a + chosen for (a, _), chosen in zip(spans, wanted, strict=True)]
        x = encoder.forward(
            self.weights, batch, self.config, self._cut, share, wanted=columns, trace=trace, after_layer=self._forget
        )
        left = spans if wanted is None else encoder.side_by_side([len(chosen) for chosen in wanted])
        return [
            use(
                Read(
                    x[:, first:end],
                    [state[:, start:stop] for state in trace.hidden_states or ()],
                    [layer[i] for layer in trace.attentions or ()],
                )
            )
            for i, ((start, stop), (first, end)) in enumerate(zip(spans, left, strict=True))
        ]

    def _forget(self, layer: int) -> None:
        """With `low_memory`, give a layer's pages back when it is done; they are read from the file again."""
        if self.low_memory:
            for mapping, start, length in self.checkpoint.pages(f"encoder.layer.{layer}"):
                mapping.madvise(mmap.MADV_DONTNEED, start, length)

    def _fast_cut(self) -> Cut:
        """Two parts of at most 384 attention rows, four of 768 feed-forward rows, in DistilRoBERTa's size."""
        heads = max(1, min(self.config.num_attention_heads, 384 // self.config.head_dim))
        return Cut(heads=heads, width=768, piece=384)

    def _exact_cut(self) -> Cut:
        heads = max(1, min(self.config.num_attention_heads, 128 // self.config.head_dim))
        return Cut(heads=heads, width=128, piece=128)

    def _checked(self, input_ids: ArrayLike, attention_mask: ArrayLike | None) -> tuple[Array, Array]:
        ids = np.asarray(input_ids)
        if ids.ndim != 2 or not ids.shape[1]:
            raise ValueError(f"input_ids has shape {ids.shape}, expected (batch, tokens), at least one token")
        if ids.size and not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"input_ids has dtype {ids.dtype}, expected integers")
        ids = ids.astype(np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() < self.config.vocab_size):
            wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)][0]
            raise ValueError(f"input_ids holds {wrong}, expected 0 to {self.config.vocab_size - 1}")
        mask = np.ones(ids.shape, bool) if attention_mask is None else np.asarray(attention_mask) != 0
        if mask.shape != ids.shape:
            raise ValueError(f"attention_mask has shape {mask.shape}, expected that of input_ids, {ids.shape}")
        longest = int((ids != self.config.pad_token_id).sum(axis=1).max(initial=0))
        if longest > self.config.max_length:
            raise ValueError(f"a text of {longest} tokens; this model has positions for {self.config.max_length}")
        return ids, mask


class TextEncoder:
    """Text in, vectors out: a checkpoint with its tokenizer.  `numroberta.load` makes one."""

    def __init__(self, checkpoint: Checkpoint, model: Roberta):
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.model = model
        self.tokenizer = Tokenizer.load(checkpoint.model_folder)
        self.max_length = min(self.tokenizer.max_length, self.config.max_length)

    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        pooling: str = "mean",
    ) -> Array:
        """Sentence vectors: (hidden,) for a string, (texts, hidden) for a list; `SentenceTransformer.encode`.

        batch_size: most texts computed side by side in a thread; the numbers do not depend on it beyond rounding.
        pooling: "mean" or "max" over the tokens (with <s> and </s>, as sentence-transformers does), or "cls".
        A text of more than `max_length` tokens is cut, with one warning that says how many were.
        """
        single = isinstance(sentences, str)
        texts: Sequence[str] = [sentences] if isinstance(sentences, str) else sentences
        blocks = self.encode_stream(
            texts, batch_size=batch_size, normalize_embeddings=normalize_embeddings, pooling=pooling
        )
        vectors = np.empty((len(texts), self.config.hidden_size), self.model.dtype)
        done = 0
        with progress(len(texts), bool(show_progress_bar)) as advance:
            for block in blocks:
                vectors[done : done + len(block)] = block
                done += len(block)
                advance(len(block))
        return vectors[0] if single else vectors

    def encode_stream(
        self,
        sentences: Iterable[str],
        batch_size: int = 32,
        normalize_embeddings: bool = False,
        pooling: str = "mean",
    ) -> Iterator[Array]:
        """Blocks of sentence vectors, (up to WINDOW, hidden) each, in order, from any iterable of texts.

        Reads at most WINDOW texts ahead, so memory does not grow with their number.
        """
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}, expected one of {', '.join(map(repr, POOLINGS))}")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}, expected at least 1")
        return self._blocks(sentences, batch_size, normalize_embeddings, pooling)

    def _blocks(self, sentences: Iterable[str], batch_size: int, normalize: bool, pooling: str) -> Iterator[Array]:
        texts = cut = left_out = 0
        remaining = iter(sentences)
        while window := list(islice(remaining, WINDOW)):
            for i, text in enumerate(window, start=texts):
                if not isinstance(text, str):
                    raise TypeError(f"sentences[{i}] is {type(text).__name__}, expected a string")
            ids, dropped = self.tokenizer.encode_ids(window, max_length=self.max_length)
            vectors = self.vectors(ids, batch_size, pooling)
            yield normalized(vectors) if normalize else vectors
            texts += len(window)
            cut += sum(map(bool, dropped))
            left_out += sum(dropped)
        if cut:
            warnings.warn(
                f"{cut:,} of {texts:,} texts have more than {self.max_length} tokens: their vectors tell of the first "
                f"{self.max_length} only, {left_out:,} tokens were left out",
                stacklevel=3,
            )

    def vectors(self, ids: Sequence[Sequence[int]], batch_size: int = 32, pooling: str = "mean") -> Array:
        """Pooled vectors of token ids, a list per text -> (texts, hidden)."""
        rows = [np.asarray(row, np.int64) for row in ids]
        texts = [(row, self.model.position_ids(row)) for row in rows]
        # The last layer need not compute the tokens that nobody reads.
        wanted = [np.zeros(1, np.int64)] * len(texts) if pooling == "cls" else None
        pooled = self.model.read(texts, lambda read: pool(read.last, pooling), wanted=wanted, most_texts=batch_size)
        return np.stack(pooled)


def load(
    name: str | os.PathLike[str] = "tiny",
    *,
    dtype: str = "float32",
    num_threads: int | None = None,
    deterministic: bool = False,
    low_memory: bool = False,
    revision: str | None = None,
) -> TextEncoder:
    """A model with its tokenizer: "tiny" (built in), a folder, or a name on the hub ("distilroberta-base").

    dtype: "float32", or "float64" for reference values (twice the memory, a third of the rate).
    num_threads: None for all cores this process may use.
    deterministic: a text's vector is the same to the last bit alone, in any batch, with any number of threads; sums
        are more exact, too.  Without it, vectors agree to 1e-5.
    low_memory: keep one layer's weights in memory; the same numbers.
    revision: a branch, tag or commit of the hub.
    Raises CheckpointError, a ValueError that says what was found and what to do.
    """
    checkpoint = open_checkpoint(name, revision=revision)
    model = Roberta(
        checkpoint, dtype=dtype, num_threads=num_threads, deterministic=deterministic, low_memory=low_memory
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
