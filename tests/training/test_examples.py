"""What is hidden of a text that teaches a masked language model."""

import numpy as np
import pytest

from numroberta.checkpoint import find_folder
from numroberta.tokenizer import Tokenizer
from numroberta.training import Example
from numroberta.training.examples import NO_LABEL, masked

TEXT = "When the rain had gone, the children ran down to the river, and nobody called them back before it was dark."


def test_of_the_hidden_tokens_eight_in_ten_are_masks_one_is_another_token_and_one_stays():
    """15 in 100 are hidden (Devlin et al. 2018); the target is what each of them was."""
    tokenizer, rng = Tokenizer.load(find_folder("tiny")), np.random.default_rng(0)
    ids = np.array(tokenizer(TEXT).ids)
    draws = [masked(Example(ids, None), tokenizer, rng) for _ in range(1000)]
    seen, targets = np.array([draw.ids for draw in draws]), np.array([draw.target for draw in draws])
    hidden = targets != NO_LABEL
    before = np.broadcast_to(ids, seen.shape)
    np.testing.assert_array_equal(seen[~hidden], before[~hidden])
    np.testing.assert_array_equal(targets[hidden], before[hidden])
    assert not hidden[:, [0, -1]].any()  # <s> and </s> stay
    parts = {
        "hidden": hidden[:, 1:-1].mean(),
        "mask": (seen[hidden] == tokenizer.mask_token_id).mean(),
        "stays": (seen == before)[hidden].mean(),
    }
    assert parts == pytest.approx({"hidden": 0.15, "mask": 0.8, "stays": 0.1}, abs=0.02)  # 4 deviations of so many
