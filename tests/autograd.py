"""PyTorch's gradients of a random checkpoint, by this package's names: the oracle of everything that trains."""

import numpy as np
import random_model

CLASSES = {
    "masked language model": "RobertaForMaskedLM",
    "sequence classification": "RobertaForSequenceClassification",
    "token classification": "RobertaForTokenClassification",
    "question answering": "RobertaForQuestionAnswering",
    "pooler": "RobertaModel",
    "encoder": "RobertaModel",
}
ENCODER = ("embeddings.", "encoder.", "pooler.")


def pytorch(weights, config, head, dtype, **more):
    """The model of transformers with these weights, dropout off unless `more` says otherwise."""
    import torch
    import transformers

    sizes = {name: getattr(config, name) for name in random_model.SIZES}
    options = {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "attn_implementation": "eager",
        "num_labels": 2 if head == "question answering" else config.num_labels,
        "problem_type": config.problem_type,
        "tie_word_embeddings": "lm_head.decoder.weight" not in weights,
    }
    own = {"add_pooling_layer": False} if head == "encoder" else {}
    model = getattr(transformers, CLASSES[head])(transformers.RobertaConfig(**(sizes | options | more)), **own)
    model = model.to(getattr(torch, dtype))
    prefix = "" if head in ("pooler", "encoder") else "roberta."
    named = {prefix + name if name.startswith(ENCODER) else name: array for name, array in weights.items()}
    if head == "masked language model":
        named |= {"lm_head.decoder.weight": weights.get("lm_head.decoder.weight", weights[WORDS])}
        named |= {"lm_head.decoder.bias": weights["lm_head.bias"]}
    missing, unexpected = model.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in named.items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith(("position_ids", "token_type_ids")) for name in missing), missing
    return model


WORDS = "embeddings.word_embeddings.weight"


def gradients(model):
    """After `loss.backward()`: the gradient of every tensor under its canonical name."""
    found = {name.removeprefix("roberta."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    if "lm_head.decoder.bias" in found:
        found["lm_head.bias"] = found.pop("lm_head.decoder.bias")
    return {name: gradient.numpy() for name, gradient in found.items()}


def check(mine, theirs, bound):
    """The same tensors, each with an RMS relative error of at most `bound`."""
    assert mine.keys() == theirs.keys()
    largest = max(map(rms, theirs.values()))
    for name, gradient in theirs.items():
        # Some gradients are zero, and rounding is left of them: that of a key's bias, which softmax does not see, and
        # those of what is added to the scores of all places of an answer.
        scale = rms(gradient) if rms(gradient) > 1e-6 * np.finfo(gradient.dtype).eps ** 0.5 * largest else largest
        found = rms(mine[name] - gradient) / scale
        assert found <= bound, f"{name}: {found}"


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def error(mine, theirs):
    """RMS difference over RMS gradient."""
    return rms(mine - theirs) / rms(theirs)
