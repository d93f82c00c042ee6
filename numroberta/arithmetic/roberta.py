"""`Roberta`: token ids in, hidden states out; the encoder of a checkpoint, run where `schedule` says."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.arithmetic import encoder, schedule
from numroberta.arithmetic.encoder import Cut, Share, Texts, Trace, Weights
from numroberta.checkpoint import Checkpoint

Array = NDArray[Any]
R = TypeVar("R")


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
        if dtype not in ("float32", "float64", np.float32, np.float64):
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
        ids, mask = self.checked(input_ids, attention_mask)
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
        with schedule.one_blas_thread():  # a second BLAS thread spins for 25 ms after its work, in the next one's way
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
        batches = schedule.groups(lengths, most_texts, alone=self.deterministic, at_least=self.num_threads)
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
        cut = self._cut(len(batch.ids), share.threads)
        x = encoder.forward(
            self.weights, batch, self.config, cut, share, wanted=columns, trace=trace, done=self._forget
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

    def _forget(self, part: str) -> None:
        """With `low_memory`, give the pages of a part's weights back; the next text reads them from the file again."""
        if self.low_memory:
            for mapping, start, length in self.checkpoint.pages(part):
                mapping.madvise(mmap.MADV_DONTNEED, start, length)

    def _cut(self, columns: int, threads: int) -> Cut:
        """How the work on so many columns is cut for so many threads.

        RMS error to float64 beside PyTorch's float32 in full size: at most 0.84 where deterministic, else at most 1.12
        (`pytest tests/test_reference.py -rP`, with and without AVX-512).
        """
        config = self.config
        small = schedule.small_products() if self.dtype == np.float32 else 0
        if self.deterministic:  # the same cut however many threads there are
            return Cut(max(1, 192 // config.head_dim), width=768, piece=128, small=small)
        shares = max(2, threads)  # in halves even for one thread: more would not stay in the cache
        heads = -(-config.num_attention_heads // shares)
        # Few columns: a thread's whole share in one part, since a call costs more than what it does.  Many: short sums.
        width = -(-config.intermediate_size // shares) if columns <= 128 else 512
        return Cut(heads, width, piece=768, small=small)

    def checked(self, input_ids: ArrayLike, attention_mask: ArrayLike | None) -> tuple[Array, Array]:
        """Ids (b, n) as int64 and the mask as bool; raises ValueError for what `__call__` refuses."""
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
