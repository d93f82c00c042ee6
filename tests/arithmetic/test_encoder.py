"""The encoder equals the textbook in float64, whatever the shape, the mask and the way the work is cut."""

import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st

from numroberta import textbook
from numroberta.arithmetic import encoder, kernels
from numroberta.arithmetic.encoder import Cut

# Rounding alone: the promise of issue and guide, not the largest error seen.
CLOSE = 1e-13  # measured: 2.7e-14 at most


def expected_of(model, ids, mask=None):
    config = model.config
    return textbook.forward(
        model.tensors,
        ids,
        mask,
        num_attention_heads=config.num_attention_heads,
        layer_norm_eps=config.layer_norm_eps,
        padding_idx=config.pad_token_id,
    )


def assert_equal(model, ids, mask=None, close=CLOSE):
    """Every hidden state and attention of every real token, and the pooled vector; zero at padding."""
    output = model(ids, mask, output_hidden_states=True, output_attentions=True)
    expected = expected_of(model, ids, mask)
    real = np.ones(np.shape(ids), bool) if mask is None else np.asarray(mask) != 0
    pairs = real[:, None, :, None] & real[:, None, None, :]  # (b, n) -> (b, 1, n, n)
    assert len(output.hidden_states) == len(expected.hidden_states)
    for a, b in zip(output.hidden_states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(a, b * real[..., None], rtol=0, atol=close)  # measured: 7.8e-15
    for a, b in zip(output.attentions, expected.attentions, strict=True):
        np.testing.assert_allclose(a, b * pairs, rtol=0, atol=close)  # measured: 4.8e-15
    assert np.array_equal(output.last_hidden_state, output.hidden_states[-1])
    if expected.pooler_output is not None:
        # measured: 2.9e-15
        np.testing.assert_allclose(
            output.pooler_output[real[:, 0]], expected.pooler_output[real[:, 0]], rtol=0, atol=close
        )


@st.composite
def models(draw):
    """A random geometry, and a random way to cut its work."""
    heads, head_dim = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 5, 8, 16]))
    width = draw(st.integers(1, 70))
    # Two or three numbers may be nearly equal; then their norm multiplies a rounding error by up to 1 / √eps.
    least_eps = [1e-12] if heads * head_dim >= 8 else []
    model = random_model.roberta(
        seed=draw(st.integers(0, 99)),
        num_threads=draw(st.integers(1, 3)),
        deterministic=draw(st.booleans()),
        num_attention_heads=heads,
        hidden_size=heads * head_dim,
        intermediate_size=width,
        num_hidden_layers=draw(st.integers(1, 3)),
        pad_token_id=draw(st.integers(0, 3)),
        layer_norm_eps=draw(st.sampled_from([*least_eps, 1e-5, 1e-2])),
        vocab_size=30,
    )
    if draw(st.booleans()):
        small = draw(st.sampled_from([0, 50, 1_000, 10**6]))
        cut = Cut(draw(st.integers(1, heads)), draw(st.integers(1, width)), draw(st.integers(1, 80)), small)
        model._cut = lambda columns, threads: cut
    return model


@st.composite
def batches(draw, pad):
    """Ids and a mask: no mask, padding on the right or on the left, or holes anywhere."""
    b, n = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    ids = rng.integers(0, 30, (b, n))
    kind = draw(st.sampled_from(["none", "right", "left", "holes"]))
    if kind == "none":
        return ids, None
    lengths = rng.integers(1, n + 1, (b, 1))
    right = np.arange(n) < lengths
    mask = {"right": right, "left": right[:, ::-1], "holes": rng.random((b, n)) < 0.6}[kind]
    mask[~mask.any(axis=1), 0] = True  # a text of no token at all is not a text
    if kind != "holes":
        ids = np.where(mask, ids, pad)
    return ids, mask.astype(int)


@given(st.data())
def test_it_equals_the_textbook_on_any_shape_mask_and_cut(data):
    model = data.draw(models())
    ids, mask = data.draw(batches(model.config.pad_token_id))
    assert_equal(model, ids, mask)


@given(st.data())
@settings(max_examples=25)
def test_it_equals_the_textbook_when_scores_are_computed_a_few_queries_at_a_time(data):
    model = data.draw(models())
    ids, mask = data.draw(batches(model.config.pad_token_id))
    whole, encoder.SCORES = encoder.SCORES, data.draw(st.integers(1, 200))
    try:
        assert_equal(model, ids, mask)
    finally:
        encoder.SCORES = whole


@given(st.data())
@settings(max_examples=50)
def test_a_long_text_equals_the_textbook_a_block_of_keys_after_the_other(data):
    model = data.draw(models())
    ids, mask = data.draw(batches(model.config.pad_token_id))
    real = np.ones(np.shape(ids), bool) if mask is None else mask != 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "LONG", data.draw(st.integers(0, 20)))
        patch.setattr(encoder, "KEYS", data.draw(st.integers(1, 9)))
        patch.setattr(encoder, "SCORES", encoder.KEYS * data.draw(st.integers(1, 9)))
        states = model(ids, mask).last_hidden_state
    expected = expected_of(model, ids, mask).last_hidden_state * real[..., None]
    np.testing.assert_allclose(states, expected, rtol=0, atol=CLOSE)  # measured: 1.7e-14


@pytest.mark.parametrize("wanted", [None, "first"])
def test_neighbours_of_one_length_equal_the_textbook_in_one_block_and_in_several(wanted):
    model = random_model.roberta(max_position_embeddings=514, num_threads=2)
    mask = np.arange(60) < np.array([[7], [60], [7], [60], [7], [3], [60], [60], [1], [7], [60], [59]])
    ids = np.where(mask, np.random.default_rng(0).integers(2, 200, mask.shape), 1)
    expected = expected_of(model, ids, mask).last_hidden_state
    texts = [(row[keep], 2 + np.arange(keep.sum())) for row, keep in zip(ids, mask, strict=True)]
    numbers = [np.arange(1 if wanted else len(text)) for text, _ in texts]
    states = model.run(texts, lambda output: np.array(output.last_hidden_state), wanted=numbers)
    for own, right, rows in zip(states, expected, numbers, strict=True):
        np.testing.assert_allclose(own.T, right[rows], rtol=0, atol=CLOSE)  # measured: 1.3e-15


@pytest.mark.parametrize("columns", [slice(None), slice(0, 1)])
def test_scores_that_rise_or_fall_by_thousands_from_block_to_block_are_weighed_exactly(columns):
    """The block that comes first may have scores whose exponentials vanish beside a later one's, or overflow."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, 8, 3 * encoder.LONG)) for _ in range(3))
    key *= np.linspace(-300, 300, key.shape[-1])
    key[1] = -key[1, :, ::-1]
    context = np.empty(query[..., columns].shape)
    encoder.attend(query[..., columns], key, value, context, kernels.Scratch(np.float64), None)
    scores = key.swapaxes(1, 2) @ query[..., columns]
    assert np.ptp(scores, axis=1).min() > 1000
    scores -= scores.max(axis=1, keepdims=True)
    probs = np.exp(scores)
    expected = value @ (probs / probs.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(context, expected, rtol=0, atol=1e-14)  # measured: 8.9e-16


@pytest.mark.parametrize("tokens", [1, 2, 3, 63, 64, 65, 127, 511, 512])
@pytest.mark.parametrize("deterministic", [False, True])
def test_it_equals_the_textbook_from_one_token_to_512(tokens, deterministic):
    model = random_model.roberta(max_position_embeddings=514, deterministic=deterministic)
    assert_equal(model, np.random.default_rng(tokens).integers(2, 200, (1, tokens)))


def test_it_equals_the_textbook_on_512_tokens_beside_short_ones():
    model = random_model.roberta(max_position_embeddings=514, num_threads=2)
    mask = np.arange(512) < np.array([[512], [1], [300], [7], [512]])
    ids = np.where(mask, np.random.default_rng(0).integers(2, 200, mask.shape), 1)
    assert_equal(model, ids, mask)


def test_padding_tokens_that_are_attended_to_share_the_padding_position():
    """With no mask, <pad> is a token like others but for its position: as in transformers."""
    model = random_model.roberta()
    assert_equal(model, [[0, 1, 1, 9, 2, 1]])


def test_what_is_masked_changes_nothing():
    model = random_model.roberta()
    mask = [[1, 1, 0, 1, 0]]
    a = model([[0, 9, 17, 2, 33]], mask).last_hidden_state
    b = model([[0, 9, 44, 2, 60]], mask).last_hidden_state
    assert np.array_equal(a, b)
    assert np.all(a[0, [2, 4]] == 0)


@given(st.data())
@settings(max_examples=50)
def test_wanted_columns_are_those_of_the_whole(data):
    model = data.draw(models())
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    texts = [(ids := rng.integers(4, 30, n), model.position_ids(ids)) for n in lengths]
    wanted = [np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=n)), int) for n in lengths]
    whole = model.run(texts, lambda output: output.last_hidden_state.copy())
    some = model.run(texts, lambda output: output.last_hidden_state.copy(), wanted=wanted)
    for all_columns, columns, chosen in zip(whole, some, wanted, strict=True):
        np.testing.assert_allclose(columns, all_columns[:, chosen], rtol=0, atol=CLOSE)  # measured: 8.9e-16


def test_weights_are_used_as_they_lie_in_the_checkpoint():
    model = random_model.roberta(dtype="float32")
    layer = model.weights.layers[0]
    tensors = model.checkpoint.tensors
    assert np.shares_memory(layer.query.weight, tensors["encoder.layer.0.attention.self.query.weight"])
    assert np.shares_memory(layer.wide.weight, tensors["encoder.layer.0.intermediate.dense.weight"])
    assert np.shares_memory(model.weights.word, tensors["embeddings.word_embeddings.weight"])


def test_a_checkpoint_without_a_pooler_has_no_pooled_output():
    model = random_model.roberta()
    without = {name: tensor for name, tensor in model.tensors.items() if not name.startswith("pooler")}
    model.weights = encoder.Weights.from_tensors(without, model.config)
    assert model([[0, 2]]).pooler_output is None


@pytest.mark.slow
def test_the_full_size_equals_the_textbook_in_float64(full_size_folder):
    import numroberta

    model = numroberta.load(full_size_folder, dtype="float64").model
    mask = np.arange(40) < np.array([[40], [13], [1]])
    ids = np.where(mask, np.random.default_rng(0).integers(3, 50_000, mask.shape), 1)
    assert_equal(model, ids, mask)


def test_a_batch_without_texts_and_a_text_without_tokens_are_zeros():
    model = random_model.roberta()
    assert model(np.zeros((0, 4), int)).last_hidden_state.shape == (0, 4, 24)
    output = model([[0, 9, 2], [0, 9, 2]], [[0, 0, 0], [1, 1, 1]], output_attentions=True)
    assert np.all(output.last_hidden_state[0] == 0)
    assert all(np.all(layer[0] == 0) for layer in output.attentions)
    np.testing.assert_allclose(output.last_hidden_state[1], model([[0, 9, 2]]).last_hidden_state[0], rtol=0, atol=CLOSE)
    assert np.all(model([[0, 9, 2]], [[0, 0, 0]]).last_hidden_state == 0)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ([0, 2], None, r"input_ids has shape \(2,\), expected \(batch, tokens\)"),
        ([[]], None, r"input_ids has shape \(1, 0\), expected \(batch, tokens\), at least one"),
        ([[0.5, 2]], None, "input_ids has dtype float64, expected integers"),
        ([[0, 30_000]], None, "input_ids holds 30000, expected 0 to"),
        ([[0, len(random_model.PIECES)]], None, f"input_ids holds {len(random_model.PIECES)}, expected 0 to"),
        ([[0, -1]], None, "input_ids holds -1, expected 0 to"),
        ([[0, 2]], [[1]], r"attention_mask has shape \(1, 1\), expected that of input_ids, \(1, 2\)"),
        ([[5] * 65], None, "a text of 65 tokens; this model has positions for 64"),
    ],
)
def test_bad_input_is_one_sentence(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        random_model.roberta()(ids, mask)
