"""`Roberta`: token ids in, hidden states out; the encoder of a checkpoint, run where `schedule` says."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import shallow
from numroberta.arithmetic import blas, cut, encoder, heads, schedule
from numroberta.arithmetic.converted import Converted, Table, is_large
from numroberta.arithmetic.encoder import Plan, Share, Texts, Trace, Weights
from numroberta.arithmetic.reproducible import ExactLayers, Recorder, Reproducible
from numroberta.checkpoint import WORDS, Checkpoint

Array = NDArray[Any]
R = TypeVar("R")


# A text as `Roberta.run` takes it: ids, positions (see `position_ids`) and, unless all are 0, token types; (n,) each.
TextInput = tuple[Array, Array] | tuple[Array, Array, Array]


class RobertaOutput(NamedTuple):
    """What `Roberta` returns: transformers' names, order and shapes; b texts of at most n tokens; padding is zero."""

    last_hidden_state: Array  # (b, n, hidden)
    pooler_output: Array | None  # (b, hidden); None where the checkpoint has no pooler
    hidden_states: tuple[Array, ...] | None  # 1 + layers, (b, n, hidden) each, if asked for
    attentions: tuple[Array, ...] | None  # a layer each, (b, heads, n queries, n keys), if asked for


class TextOutput(NamedTuple):
    """What one text gives, feature-major: a token is a column.  `Roberta.run` hands it to its `use` function."""

    last_hidden_state: Array  # (hidden, tokens), or the wanted tokens; use or copy it at once: the memory is used again
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
        reproducible: bool = False,
        low_memory: bool = False,
    ):
        if dtype not in ("float32", "float64", np.float32, np.float64):
            raise ValueError(f"dtype={dtype!r}, expected 'float32' or 'float64'")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads}, expected at least 1, or None for the cores this process has")
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.dtype = np.dtype(dtype)
        self._options: dict[str, Any] = {
            "dtype": self.dtype.name,
            "num_threads": num_threads,
            "deterministic": deterministic,
            "reproducible": reproducible,
            "low_memory": low_memory,
        }
        self.num_threads = num_threads or schedule.available_cores()
        self.deterministic = deterministic
        self.reproducible = reproducible
        self.low_memory = low_memory
        self.tensors = self._in_this_dtype()
        self.weights = Weights.from_tensors(self.tensors, self.config)
        if is_large(checkpoint.stored[WORDS]):
            self.weights = self.weights._replace(word=Table(checkpoint.stored[WORDS], self.dtype))
        self.exact, self.layers = None, heads.Layers(self.tensors, self.config.layer_norm_eps)
        if reproducible:
            self.exact = Reproducible(self._as_exact_products_read_them(), self.config, self.dtype)
            self.layers = ExactLayers(self.exact)
        self._cut = partial(cut.choose, self.config, self.dtype, deterministic)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Roberta, **self._options), (self.checkpoint,)

    __copy__ = shallow

    def _in_this_dtype(self) -> Mapping[str, Array]:
        """The checkpoint's tensors: views of the file where it has this dtype, else converted."""
        if self.checkpoint.dtype == str(self.dtype):
            return self.checkpoint.tensors
        return Converted(self.checkpoint, self.dtype, at_use=self.low_memory or self.reproducible)

    def _as_exact_products_read_them(self) -> Mapping[str, Array]:
        """The checkpoint's tensors: views of the file, or of 16-bit numbers float32 arrays.

        `Reproducible` widens them to float64 itself, a block at a time and again and again, whatever its dtype is.
        """
        kept = self.dtype if "float64" in self.checkpoint.dtype else np.dtype(np.float32)
        if self.checkpoint.dtype == str(kept):
            return self.checkpoint.tensors
        return {name: tensor.astype(kept) for name, tensor in self.checkpoint.tensors.items()}

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> RobertaOutput:
        """Token ids to hidden states.

        Args:
            input_ids: (b, n) integers.
            attention_mask: (b, n), 1 = a token, 0 = padding, anywhere; None: all 1.
            token_type_ids: (b, n), rows of the table of token types, which BERT has two of; None: all 0.
            output_hidden_states, output_attentions: give those of every layer.

        Raises:
            ValueError: For another shape, an id outside the vocabulary or a type outside its table, or more tokens
                than there are positions.
        """
        ids, mask = self.checked(input_ids, attention_mask)
        positions = self.position_ids(ids)
        types = np.zeros_like(ids) if token_type_ids is None else np.asarray(token_type_ids)
        if types.shape != ids.shape:
            raise ValueError(f"token_type_ids has shape {types.shape}, expected that of input_ids, {ids.shape}")
        b, n = ids.shape
        texts = [(ids[i, mask[i]], positions[i, mask[i]], types[i, mask[i]]) for i in range(b)]
        outputs = self.run(
            texts,
            lambda output: output._replace(last_hidden_state=output.last_hidden_state.copy()),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )

        def batch_first(states: Iterable[Array]) -> Array:
            out = np.zeros((b, n, self.config.hidden_size), self.dtype)
            for i, state in enumerate(states):
                out[i, mask[i]] = state.T  # (hidden, tokens) -> (tokens, hidden)
            return out

        def attention(layer: int) -> Array:
            out = np.zeros((b, self.config.num_attention_heads, n, n), self.dtype)
            for i, output in enumerate(outputs):
                out[i][:, np.outer(mask[i], mask[i])] = output.attentions[layer].reshape(len(out[i]), -1)
            return out

        layers = self.config.num_hidden_layers
        last = batch_first(output.last_hidden_state for output in outputs)
        states = range(layers + 1) if output_hidden_states else ()
        return RobertaOutput(
            last_hidden_state=last,
            pooler_output=self.pool(last[:, 0]),
            hidden_states=tuple(batch_first(output.hidden_states[k] for output in outputs) for k in states) or None,
            attentions=tuple(attention(layer) for layer in range(layers)) if output_attentions else None,
        )

    def position_ids(self, ids: Array) -> Array:
        """Rows of the position table, (…, n) -> (…, n).

        RoBERTa counts tokens from pad_token_id + 1 and leaves padding out; BERT counts every place from 0.
        """
        if self.config.first_position == 0:
            return np.broadcast_to(np.arange(ids.shape[-1]), ids.shape)
        is_token = ids != self.config.pad_token_id
        return self.config.pad_token_id + np.cumsum(is_token, axis=-1) * is_token

    def pool(self, first: Array) -> Array | None:
        """tanh(W x + b) of each text's first token, (b, hidden) -> (b, hidden): `transformers.RobertaPooler`."""
        if self.weights.pooler is None:
            return None
        with blas.one_blas_thread():  # a second BLAS thread spins for 25 ms after its work, in the next one's way
            return heads.pooler(self.layers, first.T).T

    def activations(self, ids: Array, positions: Array) -> dict[str, Array]:
        """Every activation of one text, (n,) ids and positions, by name, where the model is `reproducible`.

        (features, n); of attention (heads, queries, keys); of heads that look at <s> alone (features, 1).
        """
        if self.exact is None:
            raise ValueError("only a model loaded with reproducible=True records itself")
        return Recorder(self.exact).record(ids, positions)

    def run(
        self,
        texts: Sequence[TextInput],
        use: Callable[[TextOutput], R],
        *,
        wanted: Sequence[Array] | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        most_texts: int = 32,
    ) -> list[R]:
        """Run texts of token ids, and give what `use` makes of each one's output, in the texts' order.

        Args:
            texts: (ids, positions) each, (n,) integers, see `position_ids`; or (ids, positions, token types).
            use: called once for each text, on the thread that computed it, in any order.
            wanted: for each text the numbers of the tokens whose last hidden state `use` needs; the last layer
                computes only those.
            output_hidden_states, output_attentions: what `use` is given beside the last hidden state.
            most_texts: the most texts that run side by side on one thread.
        """

        def job(group: list[int]) -> Callable[[Share], list[R]]:
            chosen = None if wanted is None else [wanted[i] for i in group]
            trace = Trace([] if output_hidden_states else None, [] if output_attentions else None)
            return lambda share: self._run_group([texts[i] for i in group], use, share, chosen, trace)

        lengths = [len(text[0]) for text in texts]
        groups = schedule.groups(
            lengths, most_texts, one_text_each=self.deterministic and not self.exact, at_least=self.num_threads
        )
        outputs = schedule.run(
            [job(group) for group in groups],
            self.num_threads,
            np.float64 if self.exact else self.dtype,
            one_at_a_time=self.low_memory,
            worth_sharing=cut.worth_sharing(self.config, max(lengths, default=0)),
        )
        results: dict[int, R] = {}
        for group, values in zip(groups, outputs, strict=True):
            results.update(zip(group, values, strict=True))
        return [results[i] for i in range(len(texts))]

    def _run_group(
        self,
        texts: list[TextInput],
        use: Callable[[TextOutput], R],
        share: Share,
        wanted: list[Array] | None,
        trace: Trace,
    ) -> list[R]:
        spans = encoder.side_by_side([len(text[0]) for text in texts])
        types = np.concatenate([text[2] if len(text) == 3 else np.zeros_like(text[0]) for text in texts])
        ids, positions = (np.concatenate([text[i] for text in texts]) for i in (0, 1))
        self._check_rows(ids, types)
        batch = Texts(ids, positions, types, spans)
        # Windows takes the pages of a mapped file back by itself.
        done = self._give_pages_back if self.low_memory and hasattr(mmap, "MADV_DONTNEED") else None
        if self.exact:
            last = self.exact.forward(batch, share, wanted=wanted, trace=trace, done=done)
        else:
            plan = Plan(self.config, self._cut(len(batch.ids), share.workers), share)
            last = encoder.forward(self.weights, batch, plan, wanted=wanted, trace=trace, done=done)
        return [
            use(
                TextOutput(
                    last.x[:, columns],
                    [state[:, span] for state in trace.hidden_states or ()],
                    [layer[i] for layer in trace.attentions or ()],
                )
            )
            for i, (span, columns) in enumerate(zip(spans, last.spans, strict=True))
        ]

    def _check_rows(self, ids: Array, types: Array) -> None:
        """Raises ValueError for ids and types that their tables have no row for."""
        lowest, highest = ids.min(initial=0), ids.max(initial=0)
        if lowest < 0 or highest >= self.config.vocab_size:
            raise ValueError(
                f"a token of id {lowest if lowest < 0 else highest}, and the model's table has ids 0 to "
                f"{self.config.vocab_size - 1}: is the tokenizer of another model, or was it enlarged?"
            )
        rows = self.config.type_vocab_size
        lowest, highest = types.min(initial=0), types.max(initial=0)
        if lowest < 0 or highest >= rows:
            raise ValueError(
                f"a token type of {lowest if lowest < 0 else highest}, expected 0 to {rows - 1}: the "
                "tokenizer marks the texts of a pair, and this model's table of types is too small for it"
            )

    def _give_pages_back(self, module: str) -> None:
        """Free the memory of a module's weights; the next text reads them from the file again."""
        for mapping, start, length in self.checkpoint.pages(module):
            mapping.madvise(mmap.MADV_DONTNEED, start, length)

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
        counted = ids != self.config.pad_token_id if self.config.first_position else np.ones_like(mask)
        longest = int(counted.sum(axis=1).max(initial=0))
        if longest > self.config.max_length:
            raise ValueError(f"a text of {longest} tokens; this model has positions for {self.config.max_length}")
        return ids, mask
