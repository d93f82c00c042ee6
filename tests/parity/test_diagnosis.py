"""Mistakes planted into a port that shares no code with the catalogue are named, and sound ports are never accused."""

import hooked_roberta
import numpy as np
import pytest
import random_model
from hooked_roberta import AFTER_THE_LAST_STATE, PLANTS, SEEN_IN_VECTORS_ONLY
from unlisted_mistakes import UNLISTED

import numroberta
from numroberta import parity
from numroberta.cli import main
from numroberta.parity import beside_pytorch, measure

TEXTS = ["The rest and others, in a garden of roses", "one", "a third text stands here"]
HEADS = ("pooler", "masked language model", "sequence classification")
LAST = "encoder.layer.2.output"


class Case:
    """A model, its reference, and the port that computes the same, perhaps with mistakes."""

    def __init__(self, folder):
        self.model = numroberta.load(folder, dtype="float64")
        self.ids, self.mask = parity.batch(self.model, TEXTS)
        self.reference = parity.trace(self.model, self.ids, self.mask)
        self.weights = {n: t.astype(np.float64) for n, t in self.model.checkpoint.tensors.items()}

    def port(self, *names, layer=None):
        config, plants = self.model.config, [(PLANTS | UNLISTED)[name] for name in names]
        plant = hooked_roberta.Plant("", "")
        if plants:
            plant = plants[0]
        for other in plants[1:]:
            plant = hooked_roberta.Plant("", "", {**plant.hooks, **other.hooks}, plant.weights or other.weights)
        arguments = config.num_attention_heads, config.layer_norm_eps, config.pad_token_id, self.ids, self.mask, layer
        return plant.run(self.weights, *arguments)

    def compare(self, mine, **options):
        return parity.compare(self.reference, mine, model=self.model.checkpoint, **options)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(random_model.write(tmp_path_factory.mktemp("case"), *HEADS))


def said(comparison):
    diagnosis = comparison.diagnosis
    return " | ".join([diagnosis.mistake or "", *diagnosis.others]) if diagnosis else comparison.remark


# --- Mistakes ---------------------------------------------------------------------------------------------------


FEW = list(PLANTS)[::4]  # what README's test command takes of them


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in PLANTS])
def test_a_planted_mistake_is_named_from_all_activations(case, name):
    plant = PLANTS[name]
    comparison = case.compare(case.port(name, layer=1 if plant.layered else None))
    assert not comparison.alike
    assert plant.words.search(said(comparison)), (said(comparison), comparison.remark)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if i % 3 == 0 else pytest.mark.slow) for i, n in enumerate(UNLISTED)]
)
def test_a_mistake_that_no_list_holds_is_read_from_the_numbers(case, name):
    plant = UNLISTED[name]
    comparison = case.compare(case.port(name, layer=1 if plant.layered else None))
    assert not comparison.alike
    assert plant.words.search(said(comparison)), (said(comparison), comparison.remark)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [{"num_hidden_layers": 12}, {"hidden_size": 30, "num_attention_heads": 5}])
def test_nine_in_ten_are_named_in_deep_and_odd_models_in_every_layer(tmp_path, geometry):
    case = Case(random_model.write(tmp_path, *HEADS, **geometry))
    named, total = 0, 0
    for layer in (None, 0, case.model.config.num_hidden_layers - 1):
        for name, plant in list(PLANTS.items())[::3]:  # of the whole list every one is named in `tiny`'s size above
            if layer is None or plant.layered:
                total += 1
                named += bool(plant.words.search(said(case.compare(case.port(name, layer=layer)))))
    print(f"{named} of {total} named")
    assert named >= 0.9 * total


FROM_THE_END = ["causal", "tanh GELU", "no residual", "positions from 0", "RMSNorm", "layers reversed", "no scale",
                "int8 rows", "query and value swapped", "ids reversed", "last layer skipped", "no mask"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_THE_END)
def test_a_mistake_made_everywhere_is_named_from_the_last_hidden_state_alone(case, name):
    acts = case.port(name)
    last = max(each for each in acts if each.endswith(".output") and each.count(".") == 3)
    comparison = case.compare({"last_hidden_state": acts[last]}, seconds=30)
    assert PLANTS[name].words.search(said(comparison))


@pytest.mark.parametrize("name", [*SEEN_IN_VECTORS_ONLY, "tanh GELU", "no mask", "positions from 0"])
def test_a_mistake_is_named_from_the_sentence_embedding_alone(case, name):
    comparison = case.compare({"sentence_embedding": case.port(name)["sentence_embedding"]}, seconds=30)
    assert PLANTS[name].words.search(said(comparison)) or "pooled." in comparison.remark


def test_two_mistakes_are_both_named(case):
    comparison = case.compare(case.port("no scale", "tanh GELU"))
    assert PLANTS["no scale"].words.search(said(comparison))
    assert [diagnosis.name for diagnosis in comparison.further] == ["encoder.layer.0.intermediate"]
    assert PLANTS["tanh GELU"].words.search(comparison.further[0].mistake)
    assert "and from encoder.layer.0.intermediate on: GELU" in parity.report(comparison)


@pytest.mark.slow
def test_from_the_last_hidden_state_alone_two_mistakes_are_told_from_one_and_their_parts_named(case):
    acts = case.port("mask −1", "tanh GELU")
    comparison = case.compare({"last_hidden_state": acts[LAST]}, seconds=60)
    assert "two mistakes" in said(comparison)
    assert "mask" in said(comparison) or "padded scores" in said(comparison)
    assert "tanh" in said(comparison)


def test_where_a_mistake_is_made_is_said(case):
    assert case.compare(case.port("tanh GELU", layer=1)).diagnosis.where == "in layer 1 only"
    assert case.compare(case.port("tanh GELU")).diagnosis.where == "in every layer"


def test_of_two_mistakes_with_the_same_numbers_the_first_is_named_and_the_other_shown(case):
    diagnosis = case.compare(case.port("0/1 added")).diagnosis
    assert diagnosis.mistake.startswith("the mask of 0 and 1 is added")
    assert diagnosis.others == ("−1 is added to padded scores, too little to hide them; they must become −∞",)


def test_an_extra_layer_is_no_agreement(case):
    acts = hooked_roberta.Plant("", "", order=lambda n: [*range(n), n - 1]).run(
        case.weights, 4, case.model.config.layer_norm_eps, 1, case.ids, case.mask
    )
    encoder = {name: value for name, value in acts.items() if name.startswith("encoder")}
    comparison = case.compare(encoder)
    assert comparison.first is None
    assert not comparison.alike
    assert "mine has 4 layers, the reference 3" in comparison.remark


def test_an_unpadded_batch_comes_with_a_warning(case):
    ids = case.ids[:1]
    reference = parity.trace(case.model, ids)
    assert "masks were not tested" in parity.compare(reference, reference).remark
    assert case.compare(case.reference).remark == ""


@pytest.mark.parametrize("name", ["tanh GELU", "no mask"])
def test_a_model_without_heads_is_diagnosed_too(tmp_path, name):
    case = Case(random_model.write(tmp_path))
    acts = case.port(name)
    assert PLANTS[name].words.search(said(case.compare(acts)))
    narrow = {each: v.astype(np.float16) for each, v in acts.items() if each.startswith(("encoder", "embeddings"))}
    assert "GELU" in case.compare(narrow).remark or not case.compare(narrow).alike


@pytest.mark.parametrize("damage", ["a feature less", "a token more", "infinite", "no number"])
def test_a_dump_that_cannot_be_right_is_not_explained_by_a_mistake(case, damage):
    mine = dict(case.port())
    value = mine[LAST].copy()
    if damage == "a feature less":
        mine[LAST] = value[..., 1:]
    elif damage == "a token more":
        mine = {LAST: np.random.default_rng(0).standard_normal((3, value.shape[1] + 70, value.shape[2]))}
    else:
        value[:, 1] = np.inf if damage == "infinite" else np.nan
        mine[LAST] = value
    comparison = case.compare(mine, seconds=0.5)
    assert not comparison.alike
    assert comparison.diagnosis is None or comparison.diagnosis.mistake is None, said(comparison)


# --- Sound ports ------------------------------------------------------------------------------------------------


def rounded(acts, dtype):
    return {name: value.astype(dtype) for name, value in acts.items()}


@pytest.mark.parametrize("mode", ["float32", "bfloat16", "float16", "tf32"])
def test_a_sound_port_is_never_accused(case, mode):
    ways = {
        "float32": lambda v: v.astype(np.float32).astype(np.float64),
        "float16": hooked_roberta.half,
        "bfloat16": hooked_roberta.bf16,
        "tf32": lambda v: v,
    }
    points = [f"attention.self.{part}" for part in ("query", "key", "value")]
    points += ["embeddings", "attention.scores", "attention.probs", "attention.context", "attention.output.dense",
               "attention.output", "intermediate.dense", "intermediate", "output.dense", "output"]  # fmt: skip
    hooks = {point: lambda v, p, a: ways[mode](v) for point in points}
    weights = case.weights
    if mode == "tf32":
        hooks = {"_input": lambda v, p, a: v}
        port = TensorCores(weights, 4, case.model.config.layer_norm_eps, 1)
        acts = port.run(case.ids, case.mask)
    else:
        plant = hooked_roberta.Plant("", "", hooks)
        acts = plant.run(weights, 4, case.model.config.layer_norm_eps, 1, case.ids, case.mask)
    acts = {name: v for name, v in acts.items() if name.startswith(("encoder", "embeddings"))}
    for mine in (rounded(acts, np.float32), {LAST: acts[LAST].astype(np.float32)}):
        comparison = case.compare(mine)
        innocent = comparison.alike or comparison.diagnosis.mistake is None or comparison.diagnosis.made[-1].unit
        assert innocent, said(comparison)
        if len(mine) > 1:
            assert comparison.alike, (comparison.first, said(comparison))


class TensorCores(hooked_roberta.Port):
    """Products whose factors have 10 bits after the leading one, added up in float64."""

    def lin(self, name, x):
        m, e = np.frexp(x)
        n, g = np.frexp(self.w[name + ".weight"])
        x, w = np.ldexp(np.round(m * 2048) / 2048, e), np.ldexp(np.round(n * 2048) / 2048, g)
        return np.einsum("...i,oi->...o", x, w) + self.w[name + ".bias"]


def test_values_of_bfloat16_in_a_wider_file_are_called_so(case):
    mine = {name: hooked_roberta.bf16(v).astype(np.float32) for name, v in case.reference.items() if v.ndim == 3}
    comparison = case.compare(mine)
    assert comparison.alike
    assert {row.note for row in comparison.rows} == {"values of bfloat16"}


def test_another_norm_is_not_excused_by_16_bit_values(case):
    acts = case.port("RMSNorm")
    mine = {name: v.astype(np.float16).astype(np.float32) for name, v in acts.items() if name in case.reference}
    assert PLANTS["RMSNorm"].words.search(said(case.compare(mine)))


def test_a_mistake_that_hides_below_the_tolerance_of_float16_is_shown(case):
    acts = case.port("tanh GELU")
    mine = {name: v.astype(np.float16) for name, v in acts.items() if name.startswith(("encoder", "embeddings"))}
    comparison = case.compare(mine)
    assert comparison.alike
    assert "not noise: GELU is the tanh approximation" in comparison.remark
    sound = {name: v.astype(np.float16) for name, v in case.port().items() if name.startswith(("encoder", "embedd"))}
    assert "not noise" not in case.compare(sound).remark


@pytest.mark.slow
def test_float16_numbers_that_nothing_explains_are_not_excused(case):
    rng = np.random.default_rng(0)
    name = "encoder.layer.1.attention.context"
    value = case.reference[name]
    comparison = case.compare({name: (value + 0.5 * rng.standard_normal(value.shape)).astype(np.float16)})
    assert comparison.diagnosis.mistake is None
    assert comparison.rows[0].note == ""


def test_what_was_rounded_to_float16_once_is_judged_so_from_then_on(case):
    noise = 1 + 5e-4 * np.random.default_rng(0).standard_normal(case.reference[LAST].shape)
    later = {LAST: (case.reference[LAST] * noise).astype(np.float32)}
    assert not case.compare(later, seconds=0.2).alike
    assert case.compare({"embeddings": case.reference["embeddings"].astype(np.float16), **later}).alike


def test_rounding_may_grow_with_the_root_of_the_depth():
    at = [measure.tolerance(f"encoder.layer.{i}.output", 1e-7, 12) for i in (0, 11)]
    assert at[1] / at[0] == pytest.approx((13 / 2) ** 0.5)


@pytest.mark.slow
def test_an_error_in_more_than_half_of_an_axis_is_not_called_confined_to_it(case):
    name = "encoder.layer.1.attention.context"
    value = case.reference[name].copy()
    value[:, :, :13] += 0.5  # of 24 features
    assert "features" not in case.compare({name: value}).remark
    value[:, :, 12] -= 0.5
    assert "features 0–11" in case.compare({name: value}).remark


@pytest.mark.parametrize("wrong", [{"fast": 4e-7}, {"deterministic": 4e-7}, {"float64": 1e-9}])
def test_verify_fails_if_one_arithmetic_is_wrong(wrong):
    right = {"pytorch": 1e-7, "fast": 1e-7, "deterministic": 1e-7, "float64": 1e-15}
    assert beside_pytorch.LayerErrors("embeddings", **right).right
    assert not beside_pytorch.LayerErrors("embeddings", **right | wrong).right


# --- What a port may give -----------------------------------------------------------------------------------------


def test_one_text_of_the_batch_is_enough(case):
    length = int(case.mask[1].sum())
    for mine in (case.reference[LAST][1, :length], case.reference[LAST][1:2, :length]):
        comparison = case.compare({LAST: mine})
        assert comparison.alike, comparison.first
        assert "mine holds only text 1 of the reference's 3" in comparison.remark


def test_another_padding_is_no_difference(case):
    more = np.pad(case.reference[LAST], ((0, 0), (0, 5), (0, 0)))
    assert case.compare({LAST: more}).alike
    left = np.zeros_like(more)
    for i, n in enumerate(case.mask.sum(1)):
        left[i, -n:] = case.reference[LAST][i, :n]
    assert case.compare({LAST: left}).alike


def test_padding_on_the_other_side_is_no_difference(case):
    def moved(value):
        out = np.zeros_like(value)
        for i, n in enumerate(case.mask.sum(1)):
            out[i, -n:] = value[i, :n]
        return out

    mine = {name: moved(case.reference[name]) for name in ("embeddings", LAST)}
    comparison = case.compare(mine)
    assert comparison.alike
    assert comparison.remark.startswith("mine is padded on the left")
    wrong = {**mine, LAST: moved(case.port("tanh GELU")[LAST])}
    assert PLANTS["tanh GELU"].words.search(said(case.compare(wrong)))


def test_dumps_of_hooks_are_read_as_they_are(case):
    last, first = case.reference[LAST], case.reference["embeddings"]
    mine = {"roberta.embeddings": first, "roberta.embeddings.LayerNorm": first, "roberta.encoder": last,
            "roberta.encoder.layer.2": last, "roberta.encoder.layer.2.output.LayerNorm": last}  # fmt: skip
    comparison = case.compare(mine)
    assert comparison.alike
    assert [row.name for row in comparison.rows] == ["embeddings", LAST]
    states = [case.reference[name] for name in ("embeddings", *(f"encoder.layer.{i}.output" for i in range(3)))]
    assert len(case.compare({"hidden_states": np.stack(states)}).rows) == 4


def test_an_array_without_a_name_is_known_by_its_shape(case):
    assert case.compare({"arr_0": case.reference[LAST]}).rows[0].name == LAST
    assert case.compare({"arr_0": case.reference["sentence_embedding"]}).rows[0].name.startswith(("pooled", "sentence"))


def test_patterns_map_numbered_names(case):
    mine = {f"h.{i}.attn.q": case.reference[f"encoder.layer.{i}.attention.self.query"] for i in range(3)}
    comparison = case.compare(mine, names={"h.{n}.attn.q": "encoder.layer.{n}.attention.self.query"})
    assert comparison.alike
    assert len(comparison.rows) == 3
    with pytest.raises(ValueError, match=r"h\.0\.attn\.q"):
        case.compare(mine, names={"h.{n}.attn.k": "encoder.layer.{n}.attention.self.key"})


def test_the_search_says_how_far_it_is_and_stops(case, tmp_path, capsys):
    name = "encoder.layer.1.attention.context"
    value = case.reference[LAST] + np.random.default_rng(0).standard_normal(case.reference[LAST].shape)
    lines = []
    comparison = case.compare({LAST: value}, seconds=0.5, progress=lines.append)
    assert comparison.diagnosis.mistake is None
    assert "the search stopped" in comparison.remark
    assert all("mistakes tried" in line for line in lines)
    parity.save(tmp_path / "a.safetensors", case.reference, parity.provenance(case.model))
    np.savez(tmp_path / "b.npz", **{name: 3 * case.reference[name]})
    assert main(["compare", str(tmp_path / "a.safetensors"), str(tmp_path / "b.npz"), "--seconds", "1"]) == 1
    assert "3 times the reference" in capsys.readouterr().out


assert set(SEEN_IN_VECTORS_ONLY) <= AFTER_THE_LAST_STATE
