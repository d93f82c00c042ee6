"""`load`, and `TextEncoder`: text in, vectors or answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from numpy.typing import ArrayLike, NDArray

from numroberta import computed_once, shallow, warn
from numroberta.arithmetic import Roberta, similarity, similarity_pairwise
from numroberta.checkpoint import Checkpoint, open_checkpoint
from numroberta.model import answer, classify, fill_mask, tag, vectors
from numroberta.model.answer import Answer
from numroberta.model.classify import LabelScore, Ranked
from numroberta.model.fill_mask import Filling
from numroberta.model.options import EncodeOptions, check_whole, refuse_what_numpy_has_not
from numroberta.model.saving import save_folder
from numroberta.model.sentence import read_sentence_settings
from numroberta.model.tag import Entity, TaggedToken
from numroberta.model.texts import TextOrPair, texts_of
from numroberta.model.vectors import Embedder
from numroberta.model.word_vectors import WordEmbedder
from numroberta.tokenizer import Tokenizer, TokenVectors, WordVectors

Array = NDArray[Any]
Joined = Literal["simple", "first", "average", "max"]  # the aggregations that join tokens


class TextEncoder:
    """Text in, vectors or answers out: a checkpoint with its tokenizer.  `numroberta.load` makes one.

    max_length: the longest text, in tokens, that is read at once; `SentenceTransformer` calls it `max_seq_length`.
    sentence: how a text becomes one vector, from the files of a sentence-transformers folder.

    A message about one of several texts names it by its index, whatever was given before or twice.

    It can be pickled and copied, and so be sent to other processes: as the name of its model (of the hub's with the
    commit), the arguments of `load` and `max_length`.  Where it arrives it maps the model's files again.
    """

    def __init__(self, checkpoint: Checkpoint, model: Roberta):
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.model = model
        self.tokenizer = Tokenizer.load(checkpoint.model_folder)
        self.sentence = read_sentence_settings(checkpoint)
        longest = self.sentence.max_seq_length or self.tokenizer.max_length
        self.max_length = min(longest, self.config.max_length)
        if self.tokenizer.vocab_size > self.config.vocab_size:
            warn(
                f"{checkpoint.name}: its tokenizer has ids up to {self.tokenizer.vocab_size - 1}, its table of words "
                f"only {self.config.vocab_size} rows: texts with ids beyond it are refused"
            )

    def __repr__(self) -> str:
        model, config = self.model, self.config
        modes = [mode for mode in ("deterministic", "reproducible", "low_memory") if getattr(model, mode)]
        told = [
            f"{config.num_hidden_layers} layers × {config.num_attention_heads} heads",
            f"{config.hidden_size} dimensions",
            f"texts of up to {self.max_length} tokens",
            model.dtype.name,
            f"{model.num_threads} thread{'' if model.num_threads == 1 else 's'}",
            *modes,
        ]
        return f"<TextEncoder {self.checkpoint.name!r}: {', '.join(told)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.checkpoint, self.model), {"max_length": self.max_length}

    __copy__ = shallow

    # --- One vector per text -------------------------------------------------------------------------------------

    @overload
    def encode(
        self,
        sentences: str,
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
        missing: str | None = None,
    ) -> Array: ...

    @overload
    def encode(
        self,
        sentences: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding"] = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: Literal[True] = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        pooling: str | None = None,
        missing: str | None = None,
    ) -> Array: ...

    @overload
    def encode(
        self,
        sentences: Iterable[str],
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
        missing: str | None = None,
    ) -> Array | list[Array]: ...

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
        missing: str | None = None,
        **refused: object,
    ) -> Array | list[Array]:
        """Texts to vectors, with the arguments of `SentenceTransformer.encode`.

        A text of more than `max_length` tokens is cut, with one warning that says how many were.

        Args:
            sentences: a text, or several in any iterable: a list, a Series, an array of NumPy or Arrow, a generator.
            prompt_name: a prompt that the folder names, to be put in front of each text.
            prompt: the text itself to be put in front of each text.
            batch_size: most texts computed side by side in a thread; it changes the numbers by rounding at most.
            show_progress_bar: draw a bar.
            output_value: "sentence_embedding", or "token_embeddings" for the vectors of each text's tokens.
            precision: "float32", or "int8", "uint8", "binary", "ubinary": see `numroberta.arithmetic.quantize`.
            convert_to_numpy: False gives a list of vectors.
            convert_to_tensor, device: refused where they mean PyTorch or another processor.
            normalize_embeddings: make each vector's length 1.
            truncate_dim: keep so many dimensions.
            pooling: None for what the folder says (the mean over the tokens, with <s> and </s>, where it says nothing);
                or one of `numroberta.arithmetic.POOLINGS`, and then nothing else that the folder says is done to the
                vector.
            missing: "zero" or "nan": the vector of a text that is None, NaN or pandas.NA; None refuses such texts.

        Returns:
            (hidden,) for a string, (texts, hidden) for several, of the model's dtype or what `precision` says; a list
            of (tokens, hidden) for token embeddings.

        Raises:
            TypeError: for what is no text, or no number where one belongs.
            ValueError: for an option that this model cannot follow, and those that need PyTorch or another device.
        """
        refuse_what_numpy_has_not(convert_to_tensor, device, refused)
        options = EncodeOptions(
            batch_size, normalize_embeddings, pooling, prompt, prompt_name, truncate_dim, missing=missing
        )
        return vectors.encode(
            self, sentences, options, output_value, precision, convert_to_numpy, bool(show_progress_bar)
        )

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
        """Vectors of any iterable of texts, a block of up to 1,024 texts after the other, (texts, hidden), in order.

        A block is read, its vectors are yielded, and only then the next one is read: memory does not grow.

        Args:
            sentences: the texts.
            batch_size, normalize_embeddings, pooling, prompt, prompt_name, truncate_dim: as in `encode`.
            long: what becomes of a text of more than `max_length` tokens.  "truncate": its first tokens only, with one
                warning at the end; "split": the mean of windows that overlap, weighted by their tokens; "error":
                ValueError.

        Raises:
            TypeError, ValueError: at once for an option, while iterating for a text, as in `encode`.
        """
        return vectors.encode_stream(
            self.embedder(batch_size, normalize_embeddings, pooling, prompt, prompt_name, truncate_dim, long),
            texts_of(sentences, "sentences"),
        )

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
        """What `encode_stream` does to each block of texts, for who makes the blocks; same arguments."""
        options = EncodeOptions(batch_size, normalize_embeddings, pooling, prompt, prompt_name, truncate_dim, long)
        return Embedder(self, options)

    def vectors(self, ids: Sequence[Sequence[int]], batch_size: int = 32, pooling: str | None = None) -> Array:
        """One vector per text, of token ids, a list for each text -> (texts, hidden), as `encode` makes it of text."""
        return vectors.vectors_of_ids(self.embedder(batch_size, pooling=pooling), ids)

    def encode_query(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the folder's prompt called "query", where it has one."""
        name = self.sentence.prompt_name_for(("query",), prompt_name, options)
        return self.encode(sentences, name, **options)

    def encode_document(self, sentences: str | Iterable[str], prompt_name: str | None = None, **options: Any) -> Any:
        """`encode` with the folder's prompt called "document", "passage" or "corpus", the first that it has."""
        name = self.sentence.prompt_name_for(("document", "passage", "corpus"), prompt_name, options)
        return self.encode(sentences, name, **options)

    def similarity(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Array:
        """How alike two sets of vectors are, (n, hidden), (m, hidden) -> (n, m): cosine, or what the folder says.

        Raises ValueError for arrays that are no vectors of one width.
        """
        return similarity(embeddings1, embeddings2, self.sentence.similarity_fn_name)

    def similarity_pairwise(self, embeddings1: ArrayLike, embeddings2: ArrayLike) -> Array:
        """How alike each vector is to the one at its place in the other set, (n, hidden), (n, hidden) -> (n,).

        Raises ValueError for arrays that are no vectors of one width.
        """
        return similarity_pairwise(embeddings1, embeddings2, self.sentence.similarity_fn_name)

    @property
    def max_seq_length(self) -> int:
        """`max_length`, under the name that `SentenceTransformer` has for it."""
        return self.max_length

    @max_seq_length.setter
    def max_seq_length(self, length: int) -> None:
        self.max_length = check_whole("max_seq_length", length, 3, self.config.max_length)

    def get_sentence_embedding_dimension(self) -> int:
        """Dimensions of the vectors that `encode` gives."""
        return self.embedder(prompt="").dimension

    # --- One vector per token or word ----------------------------------------------------------------------------

    @computed_once
    def _words(self) -> WordEmbedder:
        return WordEmbedder(self.model, self.tokenizer)

    def encode_tokens(self, text: str, layers: Sequence[int] = (-1,)) -> TokenVectors:
        """The tokens of a text with their characters and vectors: .tokens .offsets .vectors, <s> and </s> included.

        layers: which hidden states, 0 the embeddings, -1 the last; of several the mean.  A text of more than
        `max_length` tokens is read in windows that overlap, and no token is lost.
        """
        return self._words.tokens(text, layers, self.max_length)

    @overload
    def encode_words(
        self, words: str, aggregation: str = "first", layers: Sequence[int] = (-1,), batch_size: int = 32
    ) -> WordVectors: ...

    @overload
    def encode_words(
        self,
        words: Sequence[list[str]] | Sequence[tuple[str, ...]],
        aggregation: str = "first",
        layers: Sequence[int] = (-1,),
        batch_size: int = 32,
    ) -> list[WordVectors]: ...

    @overload
    def encode_words(
        self, words: Sequence[str], aggregation: str = "first", layers: Sequence[int] = (-1,), batch_size: int = 32
    ) -> WordVectors: ...

    def encode_words(
        self,
        words: str | Sequence[str] | Sequence[Sequence[str]],
        aggregation: str = "first",
        layers: Sequence[int] = (-1,),
        batch_size: int = 32,
    ) -> WordVectors | list[WordVectors]:
        """One vector per word: .words .offsets .vectors, as Spark NLP's `RoBertaEmbeddings` gives for its tokens.

        A text of more than `max_length` tokens is read in windows that overlap, and no word is lost.

        Args:
            words: a text, cut as its tokenizer cuts it; or the words of a text, offsets then being those in
                `" ".join(words)`; or several such lists, which gives a list.
            aggregation: "first", the vector of a word's first token, or "mean", that of all its tokens.
            layers: which hidden states, 0 the embeddings, -1 the last; of several the mean: [-4, -3, -2, -1].
            batch_size: most windows computed side by side in a thread.

        Raises:
            TypeError: for what is no word.
            ValueError: for a word that is empty or has white space in it, or a layer that there is not.
        """
        return self._words.words(words, aggregation, layers, batch_size, self.max_length)

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

    @overload
    def fill_mask(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too
        self, text: str, top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Filling] | list[list[Filling]]: ...

    @overload
    def fill_mask(
        self, text: Iterable[str], top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[list[Filling] | list[list[Filling]]]: ...

    def fill_mask(
        self, text: str | Iterable[str], top_k: int = 5, targets: str | Sequence[str] | None = None
    ) -> list[Any]:
        """The likeliest tokens for each <mask>: dicts of score, token (its id), token_str and sequence.

        Args:
            text: a text, or several, which gives a list of results.  A text with several masks gives a list of lists,
                each mask being filled as if alone.
            top_k: how many tokens.
            targets: score only these words; " word" with its space is what stands inside a sentence.

        Raises:
            ValueError: for a text without a mask or of more than `max_length` tokens, and a checkpoint without this
                head.
        """
        return fill_mask.fill_mask(self, text, top_k, targets)

    @overload
    def classify(  # type: ignore[overload-overlap]  # a pair is an Iterable[str] too
        self,
        texts: TextOrPair,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        batch_size: int = 32,
    ) -> list[LabelScore]: ...

    @overload
    def classify(
        self,
        texts: Iterable[TextOrPair],
        top_k: int | None = None,
        function_to_apply: str | None = None,
        batch_size: int = 32,
    ) -> list[list[LabelScore]]: ...

    def classify(
        self,
        texts: TextOrPair | Iterable[TextOrPair],
        top_k: int | None = None,
        function_to_apply: str | None = None,
        batch_size: int = 32,
    ) -> list[Any]:
        """Labels with their scores, the highest first: [{"label": …, "score": …}, …]; a list of texts gives a list.

        A text of more than `max_length` tokens is cut, with a warning.

        Args:
            texts: a text; a pair (text, text) or {"text": …, "text_pair": …}; or a list of either.
            top_k: how many labels, None for all.
            function_to_apply: "softmax", "sigmoid" or "none"; None for what a CrossEncoder's folder or else the
                checkpoint's problem_type asks for.
            batch_size: most texts computed side by side in a thread.

        Raises:
            TypeError: for what is neither a text nor a pair; a list of two is no pair, since two words look the same.
            ValueError: for an option that is not known, and a checkpoint without this head.
        """
        return classify.classify(self, texts, top_k, function_to_apply, batch_size)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
    ) -> list[Ranked]:
        """Texts in the order in which they answer a query, the best first: `CrossEncoder.rank`.

        Args:
            query: what is asked for.
            documents: the texts.
            top_k: how many of them, None for all.
            return_documents: give the texts, too.
            batch_size: most texts computed side by side in a thread.

        Returns:
            dicts of corpus_id, which is the text's index, score and, if asked for, text.

        Raises:
            ValueError: for a checkpoint that is no CrossEncoder: it must have a sequence classification head with one
                label.
        """
        return classify.rank(self, query, documents, top_k, return_documents, batch_size)

    @overload
    def tag(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too
        self,
        text: str,
        aggregation: Literal["none"] = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[TaggedToken]: ...

    @overload
    def tag(  # type: ignore[overload-overlap]
        self,
        text: str,
        aggregation: Joined,
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[Entity]: ...

    @overload
    def tag(
        self,
        text: Iterable[str],
        aggregation: Literal["none"] = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[list[TaggedToken]]: ...

    @overload
    def tag(
        self,
        text: Iterable[str],
        aggregation: Joined,
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[list[Entity]]: ...

    def tag(
        self,
        text: str | Iterable[str],
        aggregation: str = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        batch_size: int = 32,
    ) -> list[Any]:
        """Labelled tokens, or entities: dicts of entity (or entity_group), score, word, start and end.

        Args:
            text: a text, or several, which gives a list of results.
            aggregation: "none", one dict per token (with its index); "simple", neighbours with the same tag together;
                "first", "average", "max": one label per word first, from its first token, the mean or the surest.
            ignore_labels: leave out what has one of these labels.
            stride: read a text of more than `max_length` tokens in windows that share so many tokens; without it the
                text is cut, with a warning.
            batch_size: most windows computed side by side in a thread.

        Raises:
            TypeError: for what is no text: a pair, a list of words.
            ValueError: for an option that is not known, and a checkpoint without this head.
        """
        return tag.tag(self, text, aggregation, ignore_labels, stride, batch_size)

    @overload
    def answer(
        self,
        question: str,
        context: str,
        top_k: Literal[1] = 1,
        *,
        max_answer_len: int = 15,
        doc_stride: int | None = None,
        max_seq_len: int | None = None,
        align_to_words: bool = True,
        handle_impossible_answer: bool = False,
    ) -> Answer: ...

    @overload
    def answer(
        self,
        question: str,
        context: str,
        top_k: int,
        *,
        max_answer_len: int = 15,
        doc_stride: int | None = None,
        max_seq_len: int | None = None,
        align_to_words: bool = True,
        handle_impossible_answer: bool = False,
    ) -> Answer | list[Answer]: ...

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
    ) -> Answer | list[Answer]:
        """Where in the context the answer stands: a dict of score, start, end and answer; for top_k > 1 a list.

        The score is P(start) P(end) among the tokens of a window, added up over all spans and windows that give the
        same words, in whatever case; so it may exceed 1 where several windows hold the answer.

        Args:
            question: one question.
            context: the text to look in, of any length.
            top_k: how many answers at most.
            max_answer_len: most tokens of an answer.
            doc_stride: how many tokens neighbouring windows of a long context share: by default 128, or half a window,
                if that is less.
            max_seq_len: most tokens of a window, question included: by default 384, or `max_length`, if that is less.
            align_to_words: let an answer begin and end where a word does.
            handle_impossible_answer: offer "" too, with the score of there being no answer.

        Raises:
            TypeError: for what is no text.
            ValueError: for an empty text, a question or an option that leaves no room for the context, and a
                checkpoint without this head.
        """
        return answer.answer(
            self,
            question,
            context,
            top_k,
            max_answer_len=max_answer_len,
            doc_stride=doc_stride,
            max_seq_len=max_seq_len,
            align_to_words=align_to_words,
            handle_impossible_answer=handle_impossible_answer,
        )


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

    Args:
        name: "tiny", a folder or a name on the hub.
        dtype: "float32", or "float64" for reference values (twice the memory, and slower).
        num_threads: None for all cores this process may use.
        deterministic: a text's vector is the same to the last bit alone, in any batch, with any number of threads;
            sums are more exact, too.  Without it, vectors agree to 1e-5.  (A BLAS other than OpenBLAS
            keeps its own threads where threadpoolctl is missing, and their number must be the same.)
        reproducible: the same bits on every machine too: whatever its processor, BLAS, operating system and byte order.
            Takes twice the time; more exact.  See `numroberta.arithmetic.reproducible`.
        low_memory: keep one layer's weights in memory; the same numbers.
        revision: a branch, tag or commit of the hub.

    Raises:
        CheckpointError: a ValueError that says what was found and what to do.
    """
    if num_threads is not None:
        check_whole("num_threads", num_threads, 1)
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
