"""Gradients, optimizer, fine-tuning: a checkpoint becomes one's own, without PyTorch.

finetuning  `finetune`: a file of labelled texts in, a folder out
function    `loss_and_gradients`, for a loop of one's own
loop        epochs, scores, the best one kept
state       what an interrupted run needs to go on
data        files to texts and labels
examples    texts and labels to what the network reads and learns
folder      the folder that a run makes
metrics     how good what was learnt is
trainer     `Trainer`: the weights of a checkpoint, a task, and what a step does to them
tasks       what can be learnt: head, tokens that are read, loss
step        a batch's loss and its gradients: groups of texts, a thread each
network     the encoder's forward pass and its backward pass
heads       hidden states to logits and back
losses      logits or vectors to a loss and its gradient
dropout     which numbers are dropped
gradients   sums of gradients by tensor
optimizer   AdamW, the learning rate's rise and fall, clipping
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.training import metrics as metrics
    from numroberta.training.finetuning import (
        TASKS as TASKS,
        Result as Result,
        finetune as finetune,
        training_folder as training_folder,
    )
    from numroberta.training.folder import remark as remark
    from numroberta.training.function import loss_and_gradients as loss_and_gradients
    from numroberta.training.loop import Diverged as Diverged, Plan as Plan, Progress as Progress
    from numroberta.training.optimizer import AdamW as AdamW, linear_schedule as linear_schedule
    from numroberta.training.state import State as State, Stored as Stored
    from numroberta.training.tasks import (
        Answer as Answer,
        Classify as Classify,
        Distill as Distill,
        Embed as Embed,
        Example as Example,
        MaskedLM as MaskedLM,
        Tag as Tag,
    )
    from numroberta.training.trainer import Trainer as Trainer

__getattr__, __dir__ = door(
    __name__,
    {
        "finetuning": ("TASKS", "Result", "finetune", "training_folder"),
        "folder": ("remark",),
        "function": ("loss_and_gradients",),
        "loop": ("Diverged", "Plan", "Progress"),
        "optimizer": ("AdamW", "linear_schedule"),
        "state": ("State", "Stored"),
        "tasks": ("Answer", "Classify", "Distill", "Embed", "Example", "MaskedLM", "Tag"),
        "trainer": ("Trainer",),
    },
)
