"""sentence-transformers folders: `encode` gives what `SentenceTransformer.encode` gives."""

import json
import shutil

import numpy as np
import pytest
import random_model
from safetensors.numpy import load_file, save_file

import numroberta
from numroberta import CheckpointError
from numroberta.arithmetic.pooling import POOLINGS, PRECISIONS, SIMILARITIES, pool, quantize
from numroberta.model.sentence import SentenceSettings

TEXTS = [
    "The rain in Spain stays mainly in the plain.",
    'Ångström\'s naïve café: 12 € – "très" cher!',
    "",
    "  two  spaces, and a\nnew line ",
    "long " * 100,
    "你好 world 🙂 and others",
]


HIDDEN = random_model.SIZES["hidden_size"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A random encoder under the names that transformers reads."""
    path = random_model.write(tmp_path_factory.mktemp("encoder"))
    save_file(load_file(path / "model.safetensors"), path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("sentence_transformers")


@pytest.fixture
def saved(theirs, encoder_folder, tmp_path):
    """A folder as SentenceTransformer.save writes it, and the model that wrote it."""

    def save(pooling="mean", *, max_seq_length=48, include_prompt=True, dense=None, normalize=False, **options):
        from sentence_transformers import models

        modes = (pooling,) if isinstance(pooling, str) else pooling
        modules = [
            models.Transformer(str(encoder_folder), max_seq_length=max_seq_length),
            models.Pooling(HIDDEN, pooling_mode=pooling, include_prompt=include_prompt),
        ]
        if dense:
            modules.append(models.Dense(len(modes) * HIDDEN, 7, activation_function=dense))
        if normalize:
            modules.append(models.Normalize())
        model = theirs.SentenceTransformer(modules=modules, device="cpu", **options)
        model.save(str(tmp_path / "saved"))
        return tmp_path / "saved", theirs.SentenceTransformer(str(tmp_path / "saved"), device="cpu")

    return save


def both(pair, texts=TEXTS, **options):
    """What each of the two gives."""
    path, model = pair
    return numroberta.load(path).encode(texts, **options), model.encode(texts, **options)


def assert_same(mine, expected):
    """Equal but for rounding, on vectors of length 5."""
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine, expected, rtol=0, atol=7e-6)  # measured: 1.9e-6


pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Importing from 'sentence_transformers.models'"
    ),  # its new home is not in release 3
    pytest.mark.filterwarnings("ignore:.* texts have more than .* tokens"),
]


@pytest.mark.parity
@pytest.mark.parametrize("pooling", [*POOLINGS, ("mean", "max"), ("cls", "lasttoken", "weightedmean")])
def test_each_pooling_gives_the_vector_that_sentence_transformers_gives(saved, pooling):
    assert_same(*both(saved(pooling)))


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "Sigmoid"])
def test_dense_and_normalize_are_computed(saved, activation):
    torch = pytest.importorskip("torch")
    assert_same(*both(saved(("mean", "max"), dense=getattr(torch.nn, activation)(), normalize=True)))


@pytest.mark.parity
def test_prompts_are_put_in_front(saved):
    pair = saved(prompts={"query": "query: ", "other": "in other words "})
    plain, _ = both(pair)
    for options in ({"prompt_name": "query"}, {"prompt_name": "other"}, {"prompt": "the "}, {"prompt": ""}):
        mine, expected = both(pair, **options)
        assert_same(mine, expected)
        assert np.allclose(mine[0], plain[0], atol=1e-3) == (options.get("prompt") == "")


@pytest.mark.parity
def test_the_default_prompt_is_used_unless_another_is_given(saved):
    pair = saved(prompts={"query": "query: ", "passage": "and "}, default_prompt_name="passage")
    assert_same(*both(pair))
    assert_same(*both(pair, prompt=""))
    path, model = pair
    ours = numroberta.load(path)
    assert_same(ours.encode_query(TEXTS[:2]), model.encode_query(TEXTS[:2]))
    assert_same(ours.encode_document(TEXTS[:2]), model.encode_document(TEXTS[:2]))
    assert_same(ours.encode_query(TEXTS[:2], prompt="x "), model.encode_query(TEXTS[:2], prompt="x "))


@pytest.mark.parity
@pytest.mark.parametrize(
    "pooling", ["mean", "cls", "weightedmean", ("cls", "max", "mean_sqrt_len_tokens", "lasttoken")]
)
def test_a_prompt_may_be_left_out_of_pooling(saved, pooling):
    pair = saved(pooling, include_prompt=False, prompts={"query": "the prompt: "})
    mine, expected = both(pair, prompt_name="query")
    assert_same(mine, expected)
    everything, _ = both(saved(pooling, include_prompt=True, prompts={"query": "the prompt: "}), prompt_name="query")
    assert not np.allclose(mine, everything, atol=1e-3)


@pytest.mark.parity
def test_texts_are_cut_where_the_folder_says(saved):
    for length in (8, 48):
        pair = saved(max_seq_length=length)
        assert numroberta.load(pair[0]).max_seq_length == pair[1].max_seq_length == length
        assert_same(*both(pair))


@pytest.mark.parity
def test_max_seq_length_can_be_set_as_there(saved):
    path, model = saved()
    ours = numroberta.load(path)
    ours.max_seq_length = model.max_seq_length = 5
    with pytest.warns(UserWarning, match="texts have more than 5 tokens"):
        assert_same(ours.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(ValueError, match="max_seq_length=65, expected 3 to 64"):
        ours.max_seq_length = 65


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [
        {"normalize_embeddings": True},
        {"truncate_dim": 10},
        {"truncate_dim": 10, "normalize_embeddings": True},
        {"truncate_dim": 1000},
        {"batch_size": 1},
    ],
)
def test_arguments_mean_what_they_mean_there(saved, options):
    assert_same(*both(saved(), **options))


@pytest.mark.parity
def test_one_text_gives_one_vector(saved):
    assert_same(*both(saved(), TEXTS[0]))


@pytest.mark.parity
def test_the_folders_own_truncation_is_applied(saved):
    pair = saved(truncate_dim=9)
    assert_same(*both(pair))
    assert numroberta.load(pair[0]).get_sentence_embedding_dimension() == 9


@pytest.mark.parity
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_gives_the_same_bits(saved, precision):
    """A value at the border between two steps may round to either: one step in 256 at most, and rarely."""
    mine, expected = both(saved(), precision=precision)
    assert mine.dtype == expected.dtype
    if precision.endswith("int8"):
        steps = np.abs(mine.astype(int) - expected.astype(int))
        assert steps.max() <= 1
        assert (steps > 0).mean() < 0.05
    else:
        assert_same(mine, expected)


@pytest.mark.parity
def test_quantizing_equals_quantize_embeddings(theirs):
    vectors = np.random.default_rng(0).standard_normal((120, 21)).astype(np.float32)
    vectors[:, 3] = 0.5  # a dimension that never changes
    for precision in PRECISIONS[1:]:
        expected = theirs.quantize_embeddings(vectors, precision)
        mine = quantize(vectors, precision)
        np.testing.assert_array_equal(mine, expected)
        assert mine.dtype == expected.dtype


@pytest.mark.parity
def test_token_embeddings_are_the_same(saved):
    path, model = saved(prompts={"query": "q: "})
    for options in ({}, {"prompt_name": "query"}):
        expected = model.encode(TEXTS, output_value="token_embeddings", **options)
        mine = numroberta.load(path).encode(TEXTS, output_value="token_embeddings", **options)
        assert len(mine) == len(expected)
        for one, other in zip(mine, expected, strict=True):
            assert_same(one, other.numpy())


@pytest.mark.parity
@pytest.mark.parametrize("precision", PRECISIONS)
def test_token_embeddings_of_each_precision_are_the_same(saved, precision):
    """The ranges of int8 are those of all tokens of all texts, as there."""
    path, model = saved()
    expected = model.encode(TEXTS, output_value="token_embeddings", precision=precision)
    mine = numroberta.load(path).encode(TEXTS, output_value="token_embeddings", precision=precision)
    for one, other in zip(mine, expected, strict=True):
        other = np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if precision == "float32":
            assert_same(one, other)
        elif precision.endswith("int8"):  # a value at the border of two steps may round to either
            assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parity
@pytest.mark.parametrize("function", SIMILARITIES)
def test_similarity_is_the_folders(saved, function):
    path, model = saved(similarity_fn_name=function)
    ours = numroberta.load(path)
    vectors = ours.encode(TEXTS)
    # measured: 3.8e-6
    np.testing.assert_allclose(
        ours.similarity(vectors[:2], vectors), model.similarity(vectors[:2], vectors), rtol=0, atol=1.2e-5
    )
    # measured: 1.9e-6
    np.testing.assert_allclose(
        ours.similarity(vectors[0], vectors[1]), model.similarity(vectors[0], vectors[1]), rtol=0, atol=7e-6
    )
    pairwise = model.similarity_pairwise(vectors[:3], vectors[3:])
    # measured: 1.9e-6
    np.testing.assert_allclose(ours.similarity_pairwise(vectors[:3], vectors[3:]), pairwise, rtol=0, atol=7e-6)


@pytest.mark.parity
def test_the_built_in_model_is_the_same_in_both(theirs, tiny):
    """Its folder has the layout of release 2."""
    model = theirs.SentenceTransformer(str(tiny.checkpoint.folder), device="cpu").float()  # stored in float16
    np.testing.assert_allclose(tiny.encode(TEXTS), model.encode(TEXTS), rtol=0, atol=6e-6)  # measured: 1.9e-6


# --- Folders as earlier releases wrote them, and broken ones: no PyTorch needed -----------------------------------


def earlier(path, encoder_folder, pooling, text_settings=None, modules=("Transformer", "Pooling")):
    """The layout of releases 2 to 4: flags for the poolings, `0_Transformer` for the encoder of the first ones."""
    shutil.copytree(encoder_folder, path, dirs_exist_ok=True)
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(listed))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN, **pooling}))
    if text_settings is not None:
        (path / "sentence_bert_config.json").write_text(json.dumps(text_settings))
    return path


def test_flags_of_earlier_releases_join_in_their_order(tmp_path, encoder_folder):
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    ours = numroberta.load(earlier(tmp_path / "a", encoder_folder, flags))
    assert ours.sentence.pooling == ("cls", "mean")
    vectors = ours.encode(TEXTS[:2])
    np.testing.assert_allclose(
        vectors[:, :24], ours.encode(TEXTS[:2], pooling="cls"), rtol=0, atol=1e-6
    )  # measured: 6.0e-7
    np.testing.assert_allclose(vectors[:, 24:], ours.encode(TEXTS[:2], pooling="mean"), rtol=0, atol=1e-6)


@pytest.mark.parity
def test_an_earlier_folder_gives_the_same_vectors_there(tmp_path, encoder_folder, theirs):
    settings = {"max_seq_length": 20, "do_lower_case": True}
    path = earlier(tmp_path / "a", encoder_folder, {"pooling_mode_cls_token": True}, settings)
    pair = path, theirs.SentenceTransformer(str(path), device="cpu")
    assert_same(*both(pair))
    assert_same(*both(pair, ["SHOUTING"]))


def test_the_encoder_may_lie_in_a_folder_of_its_own(tmp_path, encoder_folder):
    path = earlier(tmp_path / "a", encoder_folder, {"pooling_mode_cls_token": True})
    (path / "0_Transformer").mkdir()
    for file in [*path.glob("*.json"), *path.glob("*.safetensors"), path / "merges.txt"]:
        if file.name != "modules.json":
            file.rename(path / "0_Transformer" / file.name)
    (path / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(modules))
    ours = numroberta.load(path)
    assert (ours.sentence.pooling, ours.max_length) == (("cls",), 9)


def test_a_folder_that_says_nothing_means_the_mean(small):
    assert small.sentence == SentenceSettings()
    np.testing.assert_array_equal(small.encode(TEXTS[:2]), small.encode(TEXTS[:2], pooling="mean"))


def test_a_prompt_never_takes_the_last_token_away():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pool(x, ("mean",), skip=5), x[:, 2])


@pytest.mark.parametrize(
    ("pooling", "text_settings", "modules", "message"),
    [
        ({}, None, ("Transformer", "Pooling", "CNN"), "is a module 'CNN', which is not computed here; known are Dense"),
        ({}, None, ("Pooling",), "lists Pooling; expected Transformer, Pooling"),
        ({}, None, (), "lists nothing; expected Transformer, Pooling"),
        ({}, None, ("BoW", "Pooling"), "lists BoW, Pooling; expected Transformer"),
        ({"pooling_mode": "median"}, None, None, "pooling 'median' is not one of mean, cls"),
        ({"word_embedding_dimension": 25}, None, None, "pools vectors of 25 dimensions; the encoder's have 24"),
        ({}, {"max_seq_length": "many"}, None, "max_seq_length is 'many'; expected a whole number from 3"),
        ({}, [], None, r"sentence_bert_config.json holds \[\]; expected a JSON object"),
        ({}, None, ("Transformer", "Pooling", "Dense"), r"2_Dense.* cannot be read: No such file"),
    ],
)
def test_a_folder_that_cannot_be_followed_says_why(tmp_path, encoder_folder, pooling, text_settings, modules, message):
    modules = ("Transformer", "Pooling") if modules is None else modules
    path = earlier(tmp_path / "a", encoder_folder, pooling, text_settings, modules)
    with pytest.raises(CheckpointError, match=message):
        numroberta.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.Mish"},
            "Mish' is not computed here; known are Tanh, Ident",
        ),
        ({"activation_function": "mine.Tanh"}, "activation 'mine.Tanh' is not computed here"),
        ({"use_residual": True}, "use_residual is not computed here"),
        ({"module_input_name": "token_embeddings"}, "module_input_name 'token_embeddings' is not computed here"),
        ({"weight": (5, 23)}, r"linear.weight has shape \(5, 23\), expected \(any, 24\)"),
        ({"bias": (4,)}, r"linear.bias has shape \(4,\), expected \(5,\)"),
        ({"weight": None}, r"2_Dense has no model\.safetensors and no pytorch_model\.bin; found config\.json"),
    ],
)
def test_a_dense_layer_that_is_not_computed_says_why(tmp_path, encoder_folder, changes, message):
    path = earlier(tmp_path / "a", encoder_folder, {}, None, ("Transformer", "Pooling", "Dense"))
    (path / "2_Dense").mkdir()
    weight, bias = changes.pop("weight", (5, 24)), changes.pop("bias", (5,))
    (path / "2_Dense" / "config.json").write_text(json.dumps({"activation_function": "torch.nn.Tanh", **changes}))
    if weight:
        tensors = {"linear.weight": np.zeros(weight, np.float32), "linear.bias": np.zeros(bias, np.float32)}
        save_file(tensors, path / "2_Dense" / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        numroberta.load(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": ["query: "]}, r"prompts is \['query: '\]; expected an object of strings"),
        ({"prompts": {"query": 3}}, r"prompts is \{'query': 3\}; expected an object of strings"),
        ({"default_prompt_name": "q"}, r"default_prompt_name is 'q'; prompts has \[\]"),
        ({"default_prompt_name": ["q"]}, r"default_prompt_name is \['q'\]; prompts has \[\]"),
        ({"similarity_fn_name": {"a": 1}}, "similarity_fn_name is {'a': 1}, not one of cosine, dot"),
        ({"truncate_dim": "64"}, "truncate_dim is '64'; expected a whole number from 1"),
        ({"similarity_fn_name": "maxsim"}, "similarity_fn_name is 'maxsim', not one of cosine, dot"),
    ],
)
def test_settings_that_contradict_themselves_say_so(tmp_path, encoder_folder, settings, message):
    path = earlier(tmp_path / "a", encoder_folder, {})
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        numroberta.load(path)


def test_a_prompt_of_null_is_none(tmp_path, encoder_folder):
    path = earlier(tmp_path / "a", encoder_folder, {})
    (path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: ", "document": null}}')
    assert numroberta.load(path).sentence.prompts == {"query": "query: "}


def test_code_that_a_folder_brings_along_is_refused(tmp_path, encoder_folder):
    path = earlier(tmp_path / "a", encoder_folder, {})
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=r"names the class 'custom_st\.Transformer', code of its own"):
        numroberta.load(path)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Softmax", "Sigmoid"])
@pytest.mark.filterwarnings("ignore:Implicit dimension")
def test_each_activation_of_a_dense_layer_is_torchs(saved, name):
    import torch

    path, model = saved(dense=getattr(torch.nn, name)())
    np.testing.assert_allclose(
        numroberta.load(path).encode(TEXTS[:4]), model.encode(TEXTS[:4]), rtol=0, atol=1.5e-6
    )  # measured: 3.6e-7


@pytest.mark.parity
def test_a_layer_norm_after_pooling_is_torchs(theirs, encoder_folder, tmp_path):
    import torch
    from sentence_transformers import models

    norm = models.LayerNorm(HIDDEN)
    torch.nn.init.normal_(norm.norm.weight)
    torch.nn.init.normal_(norm.norm.bias)
    modules = [models.Transformer(str(encoder_folder), max_seq_length=48), models.Pooling(HIDDEN), norm]
    model = theirs.SentenceTransformer(modules=modules, device="cpu")
    model.save(str(tmp_path / "saved"))
    np.testing.assert_allclose(
        numroberta.load(tmp_path / "saved").encode(TEXTS[:4]),
        model.encode(TEXTS[:4]),
        rtol=0,
        atol=1e-6,  # measured: 2.4e-7
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"convert_to_tensor": True}, ValueError, "convert_to_tensor=True needs PyTorch"),
        ({"device": "cuda"}, ValueError, "device='cuda': numroberta computes on the CPU"),
        ({"device": ["cpu", "cpu"]}, ValueError, r"device=\['cpu', 'cpu'\]: numroberta computes on the CPU"),
        ({"pool": {}}, ValueError, "pool and chunk_size are for several processes"),
        ({"task": "query"}, TypeError, "encode has no argument 'task'"),
        ({"output_value": None}, ValueError, "output_value=None, expected 'sentence_embedding'"),
        ({"precision": "int4"}, ValueError, "precision='int4', expected one of 'float32', 'int8'"),
        ({"precision": "int8"}, ValueError, "precision='int8' takes each dimension's range from the vectors, and 1"),
        ({"prompt_name": "query"}, ValueError, "prompt_name='query': this model names none; give the text"),
        ({"truncate_dim": 0}, ValueError, "truncate_dim=0, expected at least 1"),
        ({"pooling": "median"}, ValueError, "pooling='median', expected one of 'mean', 'cls'"),
        ({"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
    ],
)
def test_arguments_that_make_no_sense_here_are_refused_by_name(small, options, error, message):
    with pytest.raises(error, match=message):
        small.encode(["x"], **options)


@pytest.mark.parametrize("option", [{"pooling": "max"}, {"normalize_embeddings": True}, {"truncate_dim": 5}])
def test_an_option_for_one_vector_per_text_is_refused_for_one_per_token(small, option):
    """Where sentence-transformers ignores it."""
    name, value = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"^{name}={value!r} is for one vector per text: it does nothing with"):
        small.encode(["x"], output_value="token_embeddings", **option)


def test_equal_texts_have_token_embeddings_of_their_own(small):
    first, other, again = small.encode([TEXTS[0], TEXTS[3], TEXTS[0]], output_value="token_embeddings")
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape
    again[:] = 0
    assert first.any()


@pytest.mark.parametrize(("precision", "dtype", "width"), [("ubinary", "uint8", 3), ("int8", "int8", 24)])
def test_no_texts_give_no_vectors_of_the_right_kind(small, precision, dtype, width):
    none = small.encode([], precision=precision)
    assert (none.shape, none.dtype) == ((0, width), dtype)
    assert small.encode([], output_value="token_embeddings", precision=precision) == []


@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_first_token_is_that_of_the_text_where_the_prompt_is_not_pooled(tmp_path, encoder_folder, include_prompt):
    """`cls` alone, for which the last layer computes one token only."""
    flags = {"pooling_mode_cls_token": True, "include_prompt": include_prompt}
    ours = numroberta.load(earlier(tmp_path / "a", encoder_folder, flags))
    prompt = "the prompt: "
    tokens = ours.encode(TEXTS[0], prompt=prompt, output_value="token_embeddings")
    first = 0 if include_prompt else len(ours.tokenizer(prompt)) - 1
    np.testing.assert_allclose(
        ours.encode(TEXTS[0], prompt=prompt), tokens[first], rtol=0, atol=1.6e-6
    )  # measured: 4.8e-7


def test_vectors_behind_a_dense_layer_have_the_same_bits_alone_and_in_a_batch(tmp_path, encoder_folder):
    path = earlier(tmp_path / "a", encoder_folder, {}, None, ("Transformer", "Pooling", "Dense"))
    (path / "2_Dense").mkdir()
    (path / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.activation.Tanh"}')
    weight = np.random.default_rng(0).standard_normal((37, HIDDEN)).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": weight[:, 0].copy()}, path / "2_Dense" / "model.safetensors")
    ours = numroberta.load(path, deterministic=True)
    texts = [f"the sand {number} and the rest" for number in range(40)]
    np.testing.assert_array_equal(ours.encode(texts), np.stack([ours.encode(text) for text in texts]))


def test_a_pooling_of_ones_own_replaces_all_that_the_folder_does_to_the_vector(tmp_path, encoder_folder, small):
    flags = {"pooling_mode_cls_token": True}
    ours = numroberta.load(
        earlier(tmp_path / "a", encoder_folder, flags, None, ("Transformer", "Pooling", "Normalize"))
    )
    assert np.linalg.norm(ours.encode(TEXTS[0])) == pytest.approx(1, abs=1e-6)
    tokens = ours.encode(TEXTS[0], output_value="token_embeddings")
    np.testing.assert_allclose(ours.encode(TEXTS[0], pooling="mean"), tokens.mean(axis=0), rtol=0, atol=1e-6)
    assert np.linalg.norm(ours.encode(TEXTS[0], pooling="cls")) > 2  # √24 · the size of a normalized hidden state


def test_normalizing_anything_but_the_texts_vector_is_refused(tmp_path, encoder_folder):
    path = earlier(tmp_path / "a", encoder_folder, {}, None, ("Transformer", "Pooling", "Normalize"))
    (path / "2_Normalize").mkdir()
    (path / "2_Normalize" / "config.json").write_text('{"module_input_name": "token_embeddings"}')
    with pytest.raises(CheckpointError, match="module_input_name 'token_embeddings' is not computed here"):
        numroberta.load(path)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (("corpus",), "corpus"),
        (("corpus", "passage"), "passage"),
        (("corpus", "passage", "document"), "document"),
        (("query",), None),
        ((), None),
    ],
)
def test_documents_get_the_folders_prompt_for_documents_under_whichever_name(tmp_path, encoder_folder, named, expected):
    path = earlier(tmp_path / "a", encoder_folder, {})
    prompts = {name: f"the {name}: " for name in named}
    (path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    ours = numroberta.load(path)
    wanted = ours.encode(TEXTS[:2], prompt=prompts.get(expected, ""))
    np.testing.assert_array_equal(ours.encode_document(TEXTS[:2]), wanted)
    query = ours.encode(TEXTS[:2], prompt=prompts.get("query", ""))
    np.testing.assert_array_equal(ours.encode_query(TEXTS[:2]), query)
    np.testing.assert_array_equal(ours.encode_query(TEXTS[:2], prompt=""), ours.encode(TEXTS[:2]))


def test_arguments_that_only_say_what_is_so_are_accepted(small):
    expected = small.encode(TEXTS[:2])
    np.testing.assert_array_equal(small.encode(TEXTS[:2], device="cpu", convert_to_numpy=True), expected)
    rows = small.encode(TEXTS[:2], convert_to_numpy=False)
    assert isinstance(rows, list)
    np.testing.assert_array_equal(np.stack(rows), expected)
