"""Fifty steps go as PyTorch's go: the same losses, in float32, from the same weights and texts."""

import autograd
import numpy as np
import pytest

from numroberta.checkpoint import SEQUENCE, open_checkpoint
from numroberta.training import Classify, Example, Trainer, linear_schedule
from numroberta.training.optimizer import decays

RATE, STEPS = 1e-4, 50


def batches():
    """Four texts of 12 random tokens each, whose label is whether the second one has a small number."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        ids = rng.integers(5, 8000, (4, 12))
        yield ids, (ids[:, 1] < 4000).astype(np.int64)


@pytest.mark.parity
def test_fifty_steps_have_pytorchs_losses():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    trainer = Trainer(open_checkpoint("tiny"), Classify(("no", "yes")), num_threads=1, max_norm=1.0)
    model = autograd.pytorch(trainer.tensors, trainer.config, SEQUENCE, "float32").train()
    groups = [
        {"params": [p for name, p in model.named_parameters() if decays(name) is decayed], "weight_decay": decay}
        for decayed, decay in ((True, 0.01), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    ours, theirs = [], []
    for step, (ids, labels) in enumerate(batches()):
        rate = RATE * linear_schedule(step + 1, STEPS + 1, 5)
        ours.append(trainer.step([Example(*row) for row in zip(ids, labels, strict=True)], rate))
        loss = model(torch.from_numpy(ids), labels=torch.from_numpy(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        theirs.append(loss.item())
    difference = np.abs(np.array(ours) - theirs) / np.array(theirs)
    print(f"largest relative difference in {STEPS} steps: {difference.max():.1e}")
    assert difference.max() <= 1e-5


def test_a_step_whose_loss_is_no_number_leaves_the_weights():
    trainer = Trainer(open_checkpoint("tiny"), Classify(("no", "yes")), num_threads=1)
    trainer.tensors["classifier.out_proj.bias"][:] = np.nan
    before = trainer.tensors["classifier.out_proj.weight"].copy()
    assert np.isnan(trainer.step([Example(np.array([0, 9, 2]), 1)], RATE))
    assert np.array_equal(trainer.tensors["classifier.out_proj.weight"], before)
