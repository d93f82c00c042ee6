"""What `tiny` takes from its teacher, all-MiniLM-L6-v2: sentence vectors, and its own weights cut to half width.

The teacher has the student's shape twice as wide (6 layers, 12 heads, 384 dimensions against 192), so the
student need not start from noise. Its residual stream is projected on the 192 directions that carry most of the
teacher's activations (as SliceGPT does, Ashkboos et al. 2024), each head keeps the 16 directions that matter most
to its scores and to its output, each feed-forward block the 768 neurons with the largest effect, and each layer
norm is fitted again. Training heals the rest in minutes instead of hours.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

try:
    import torch
    import torch.nn.functional as F
    from transformers import AutoTokenizer, BertModel
except ImportError as error:
    raise SystemExit(f"this needs {error.name}: run `pip install '.[parity]'`") from None

Weights = dict[str, torch.Tensor]


class Teacher:
    """all-MiniLM-L6-v2 from a folder, in float32; no padding: texts of one length run side by side."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval().to(device)
        self.device = device

    @torch.inference_mode()
    def encode(self, texts: list[str], batch_size: int = 64) -> np.ndarray:
        """Mean-pooled vectors, not normalised. n texts -> (n, 384) float16"""
        ids = self.tokenizer(texts, truncation=True, max_length=64)["input_ids"]
        by_length: dict[int, list[int]] = {}
        for i, text_ids in enumerate(ids):
            by_length.setdefault(len(text_ids), []).append(i)
        vectors = np.empty((len(texts), self.model.config.hidden_size), np.float16)
        for rows in by_length.values():
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                hidden = self.model(torch.tensor([ids[i] for i in batch], device=self.device)).last_hidden_state
                vectors[batch] = hidden.mean(1).cpu().numpy()  # (batch, tokens, 384) -> (batch, 384)
        return vectors

    def encode_to_file(self, texts: list[str], path: Path, chunk: int = 4096) -> np.ndarray:
        """`encode`, in chunks appended to `path`, so that a stopped run goes on where it was."""
        width = self.model.config.hidden_size
        done = path.stat().st_size // (2 * width) if path.exists() else 0
        with path.open("ab") as file, tqdm(total=len(texts), initial=done, desc="teacher", unit="text") as bar:
            for start in range(done, len(texts), chunk):
                vectors = self.encode(texts[start : start + chunk])
                file.write(vectors.tobytes())
                bar.update(len(vectors))
        return np.fromfile(path, np.float16).reshape(-1, width)

    def embed_tokens(self, tokens: list[str]) -> torch.Tensor:
        """A vector for each token of another vocabulary: the mean over its own pieces. -> (tokens, 384)"""
        table = self.model.embeddings.word_embeddings.weight.detach().cpu()
        vocabulary = self.tokenizer.get_vocab()
        rows = []
        for token in tokens:
            text = token.lower()
            if text.strip() == text and f"##{text}" in vocabulary:
                pieces = [vocabulary[f"##{text}"]]
            else:
                pieces = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            rows.append(table[pieces].mean(0) if pieces else table.mean(0))
        return torch.stack(rows)


@torch.inference_mode()
def record(teacher: Teacher, texts: list[str]) -> Weights:
    """Inputs and outputs of every layer norm and the outputs of every layer, for all tokens. name -> (tokens, 384)"""
    seen: dict[str, list[torch.Tensor]] = {}

    def hook(name: str):  # type: ignore[no-untyped-def]
        def keep(_module, inputs, output):  # type: ignore[no-untyped-def]
            seen.setdefault(f"{name}.in", []).append(inputs[0].flatten(0, 1).double().cpu())
            seen.setdefault(f"{name}.out", []).append(output.flatten(0, 1).double().cpu())

        return keep

    hooks = [
        module.register_forward_hook(hook(name))
        for name, module in teacher.model.named_modules()
        if name.endswith("LayerNorm")
    ]
    teacher.encode(texts)
    for handle in hooks:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def second_moment(x: torch.Tensor) -> torch.Tensor:
    return x.T @ x / len(x)  # (n, d) -> (d, d)


def square_root(moment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric root of a second moment, and its inverse. (d, d) -> (d, d), (d, d)"""
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(1e-6 * float(values.max())).sqrt()
    return vectors * values @ vectors.T, vectors / values @ vectors.T


def cut_product(left: torch.Tensor, right: torch.Tensor, rank: int, root_l: tuple, root_r: tuple) -> tuple:  # type: ignore[type-arg]
    """The best `rank` directions of leftᵀ right, weighed by how far the inputs reach in each direction.

    left: (full, a), right: (full, b) -> (rank, a), (rank, b)
    """
    u, s, v = torch.linalg.svd(root_l[0] @ left.T @ right @ root_r[0])
    scale = s[:rank].sqrt()[:, None]
    return scale * u.T[:rank] @ root_l[1], scale * v[:rank] @ root_r[1]


def fit_norm(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer norm's weight and bias that bring `before` nearest to `after`. (n, d), (n, d) -> (d,), (d,)"""
    normal = F.layer_norm(before, before.shape[1:])
    centred = normal - normal.mean(0)
    weight = (centred * (after - after.mean(0))).sum(0) / centred.square().sum(0)
    return weight, after.mean(0) - weight * normal.mean(0)


def cut(
    teacher: Teacher, texts: list[str], tokens: list[str], hidden: int, inner: int, seed: int
) -> tuple[Weights, torch.Tensor]:
    """The teacher's weights at width `hidden`, named as transformers' RobertaModel, and the projection (hidden, 384).

    texts: some hundred sentences to measure activations on; tokens: the student's vocabulary as text.
    """
    config = teacher.model.config
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    full, head = config.hidden_size // heads, hidden // heads
    old = {name: tensor.detach().double().cpu() for name, tensor in teacher.model.state_dict().items()}
    seen = record(teacher, texts)

    streams = ["embeddings.LayerNorm", *(f"encoder.layer.{i}.output.LayerNorm" for i in range(layers))]
    moments = [second_moment(seen[f"{name}.out"]) for name in streams]
    moment = sum(m / m.trace() for m in moments) + 2 * moments[-1] / moments[-1].trace()  # the last makes the vectors
    basis = torch.linalg.eigh(moment).eigenvectors[:, -hidden:].T  # (hidden, 384), orthonormal rows
    turn = torch.linalg.qr(torch.randn(hidden, hidden, generator=torch.Generator().manual_seed(seed)).double()).Q
    P = turn @ basis  # any rotation will do; a random one gives each coordinate its share, as a layer norm likes

    new: Weights = {}

    def norm(name: str) -> None:
        weight, bias = fit_norm(seen[f"{name}.in"] @ P.T, seen[f"{name}.out"] @ P.T)
        new[f"{name}.weight"], new[f"{name}.bias"] = weight, bias

    positions = old["embeddings.position_embeddings.weight"] @ P.T  # (512, 384) -> (512, hidden)
    new["embeddings.word_embeddings.weight"] = teacher.embed_tokens(tokens).double() @ P.T
    new["embeddings.position_embeddings.weight"] = torch.cat([torch.zeros(2, hidden).double(), positions])
    new["embeddings.token_type_embeddings.weight"] = old["embeddings.token_type_embeddings.weight"][:1] @ P.T
    norm("embeddings.LayerNorm")

    for i in range(layers):
        a, layer = f"encoder.layer.{i}.attention", f"encoder.layer.{i}"
        x = seen[f"{streams[i]}.out"] @ P.T  # (n, hidden)
        x1 = torch.cat([x, torch.ones(len(x), 1)], 1)  # a bias is the weight of a constant 1
        root, root1 = square_root(second_moment(x)), square_root(second_moment(x1))
        keep: dict[str, list[torch.Tensor]] = {"query": [], "key": [], "value": [], "output": []}
        for h in range(heads):
            rows = slice(h * full, (h + 1) * full)
            q = torch.cat([old[f"{a}.self.query.weight"][rows] @ P.T, old[f"{a}.self.query.bias"][rows, None]], 1)
            k = old[f"{a}.self.key.weight"][rows] @ P.T  # its bias shifts a query's scores alike: softmax ignores it
            q, k = cut_product(q * (head / full) ** 0.25, k * (head / full) ** 0.25, head, root1, root)
            v = old[f"{a}.self.value.weight"][rows] @ P.T
            o = (P @ old[f"{a}.output.dense.weight"][:, rows]).T  # (full, hidden)
            eye = torch.eye(hidden).double()
            v, o = cut_product(v, o, head, root, (eye, eye))
            for name, part in (("query", q), ("key", k), ("value", v), ("output", o)):
                keep[name].append(part)
        query = torch.cat(keep["query"])
        new[f"{a}.self.query.weight"], new[f"{a}.self.query.bias"] = query[:, :-1], query[:, -1]
        new[f"{a}.self.key.weight"], new[f"{a}.self.key.bias"] = torch.cat(keep["key"]), torch.zeros(hidden)
        new[f"{a}.self.value.weight"], new[f"{a}.self.value.bias"] = torch.cat(keep["value"]), torch.zeros(hidden)
        constant = old[f"{a}.output.dense.weight"] @ old[f"{a}.self.value.bias"] + old[f"{a}.output.dense.bias"]
        new[f"{a}.output.dense.weight"], new[f"{a}.output.dense.bias"] = torch.cat(keep["output"]).T, P @ constant
        norm(f"{a}.output.LayerNorm")

        x = seen[f"{a}.output.LayerNorm.out"] @ P.T
        up = old[f"{layer}.intermediate.dense.weight"] @ P.T  # (1536, hidden)
        acts = F.gelu(x @ up.T + old[f"{layer}.intermediate.dense.bias"])  # (n, 1536)
        down = P @ old[f"{layer}.output.dense.weight"]  # (hidden, 1536)
        best = (down.norm(dim=0) * acts.std(0)).topk(inner).indices.sort().values
        chosen = torch.cat([acts[:, best], torch.ones(len(acts), 1)], 1)
        gram = chosen.T @ chosen + 1e-2 * len(acts) * torch.diag(chosen.var(0) + 1e-6)
        fitted = torch.linalg.solve(gram, chosen.T @ (acts @ down.T)).T  # the chosen neurons speak for all
        new[f"{layer}.intermediate.dense.weight"] = up[best]
        new[f"{layer}.intermediate.dense.bias"] = old[f"{layer}.intermediate.dense.bias"][best]
        new[f"{layer}.output.dense.weight"] = fitted[:, :-1]
        new[f"{layer}.output.dense.bias"] = fitted[:, -1] + P @ old[f"{layer}.output.dense.bias"]
        norm(f"{layer}.output.LayerNorm")
    return {name: tensor.float() for name, tensor in new.items()}, P.float()
