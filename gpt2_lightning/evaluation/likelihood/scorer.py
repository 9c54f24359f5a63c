"""Log-likelihoods of many requests, in batches."""

from __future__ import annotations

import math
import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request, TokenIds
from gpt2_lightning.evaluation.likelihood.trees import ItemError, Row, Tree, rows, tree
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.model import GPT2
from gpt2_lightning.model.gpt2 import AttentionContext
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.model.kernels.cudnn import without_cudnn

_LOGITS = 2**22
"""Largest number of elements of the logits in memory at a time; see `model.loss.LARGE_LOGITS`."""
_FILLED = 0.9
"""Shortest row of a batch relative to the longest; shorter ones would be padded too much."""

Requests = Sequence[Sequence[Request]]


class Scorer:
    """Computes log-likelihoods under a model, with the definitions of lm-evaluation-harness.

    Rows are sorted by length and computed in batches of up to `tokens_per_batch` tokens. Continuations of one context
    are computed with it in one row. Logits are computed only where a token of a continuation is predicted.

    Args:
        subject: the model and its devices.
        never_first: token ids that do not count as the most likely one at the first position of a continuation.
    """

    def __init__(self, subject: Subject, never_first: Sequence[int] = ()) -> None:
        self.tokens_per_batch = subject.tokens_per_batch
        self.never_first = never_first
        self.models = subject.replicas

    def score(self, requests: Requests) -> Iterator[tuple[int, list[list[Likelihood]]]]:
        """Compute the likelihood of every continuation.

        Args:
            requests: for each item its requests.

        Yields:
            For each item, in any order: its index, and for each of its requests the likelihoods of the continuations.

        Raises:
            ItemError: if logits are NaN, or if a continuation does not fit into the context.
        """
        found: dict[int, list[list[Likelihood | None]]] = {}
        missing: dict[int, int] = {}
        planned = sorted(rows(requests, self.models[0].config.block_size), key=lambda row: -row.length)
        for row in planned:
            missing[row.item] = missing.get(row.item, 0) + 1
        for batch, likelihoods in self._computed(requests, _batches(planned, self.tokens_per_batch)):
            for row, of_row in zip(batch, likelihoods, strict=True):
                of_item = found.setdefault(
                    row.item, [[None] * len(request.continuations) for request in requests[row.item]]
                )
                for index, likelihood in zip(row.continuations, of_row, strict=True):
                    of_item[row.request][index] = likelihood
                missing[row.item] -= 1
                if not missing[row.item]:
                    yield row.item, found.pop(row.item)  # type: ignore[misc]  # no None is left
        yield from ((item, []) for item, of_item in enumerate(requests) if not of_item)

    def _computed(
        self, requests: Requests, batches: Iterable[list[Row]]
    ) -> Iterator[tuple[list[Row], list[list[Likelihood]]]]:
        """Compute batches, on all devices at the same time."""
        if len(self.models) == 1:
            with packed(self.models[0]):
                for batch in batches:
                    yield batch, _likelihoods(self.models[0], requests, batch, self.never_first)
            return
        free: queue.SimpleQueue[GPT2] = queue.SimpleQueue()
        for model in self.models:
            free.put(model)

        def compute(batch: list[Row]) -> tuple[list[Row], list[list[Likelihood]]]:
            model = free.get()
            try:
                return batch, _likelihoods(model, requests, batch, self.never_first)
            finally:
                free.put(model)

        pool = ThreadPoolExecutor(len(self.models))
        try:
            yield from pool.map(compute, batches)
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(planned: Sequence[Row], tokens_per_batch: int) -> Iterator[list[Row]]:
    """Divide rows, the longest first, into batches."""
    batch: list[Row] = []
    for row in planned:
        if batch:
            longest = batch[0].length
            if (len(batch) + 1) * longest > tokens_per_batch or row.length < _FILLED * longest:
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _likelihoods(
    model: GPT2, requests: Requests, batch: Sequence[Row], never_first: Sequence[int]
) -> list[list[Likelihood]]:
    """For each row of a batch, the likelihoods of its continuations."""
    trees = [tree(requests[row.item][row.request], row) for row in batch]
    width = batch[0].length
    sources = [index * width + part for index, of_row in enumerate(trees) for part in of_row.predicting]
    targets = [requests[row.item][row.request].continuations[i] for row in batch for i in row.continuations]
    with without_cudnn():  # the lengths of batches differ
        features = _features(model, trees, width).flatten(0, 1)
    ends = np.cumsum([len(tokens) for tokens in targets])[:-1]
    barred = {int(part[0]): never_first for part in sources} if never_first else {}
    log_probs, greedy = _log_probs(model, features, np.concatenate(sources), np.concatenate(targets), barred)
    parts = zip(np.split(log_probs, ends), np.split(greedy, ends), strict=True)
    return [[_likelihood(row, *next(parts)) for _ in row.continuations] for row in batch]


def _likelihood(row: Row, log_probs: NDArray[np.float32], greedy: NDArray[np.bool_]) -> Likelihood:
    total = float(log_probs.sum(dtype=np.float64))
    if math.isnan(total):
        raise ItemError(row.item, "the logits are NaN; are the weights finite?")
    return Likelihood(total, bool(greedy.all()), len(greedy), row.cut)


def _features(model: GPT2, trees: Sequence[Tree], width: int) -> Tensor:
    """Input of the head for rows padded at their ends to `width` tokens, (B, T, C)."""
    padded = np.zeros((3, len(trees), width), dtype=np.int64)
    for index, row in enumerate(trees):
        padded[:, index, : len(row.ids)] = row.ids, row.positions, row.branches
    ids, positions, branches = torch.from_numpy(padded).to(model.wte.weight.device)  # each (B, T)
    rotate = getattr(model.wpe, "rotate", None)
    indices = torch.arange(width, device=ids.device)  # (T,)
    if not padded[2].any():
        return model.forward_hidden(ids, AttentionContext(indices, None, rotate))
    keys, queries = branches.unsqueeze(1), branches.unsqueeze(2)
    attn_mask = (indices <= indices.unsqueeze(1)) & ((keys == 0) | (keys == queries))  # (B, T, T)
    return model.forward_hidden(ids, AttentionContext(positions, attn_mask.unsqueeze(1), rotate))


def _log_probs(
    model: GPT2,
    features: Tensor,
    sources: NDArray[np.int64],
    targets: TokenIds,
    barred: Mapping[int, Sequence[int]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Log-probabilities of target tokens, and whether each is the most likely one.

    Args:
        model: the model with the head.
        features: input of the head, (N, C).
        sources: index of the features that predict each target, (K,); several targets may have the same.
        targets: token ids, (K,).
        barred: token ids that do not count as the most likely one, by the index of the features.
    """
    order = np.argsort(sources, kind="stable")
    used, first = np.unique(sources[order], return_index=True)
    ends = np.append(first, len(sources))
    rows_of_targets = torch.from_numpy(np.repeat(np.arange(len(used)), np.diff(ends))).to(features.device)
    sorted_targets = torch.from_numpy(targets[order].astype(np.int64)).to(features.device)
    features = features[torch.from_numpy(used).to(features.device)]
    log_probs, greedy = [], []
    step = max(1, _LOGITS // model.config.vocab_size)
    for start in range(0, len(used), step):
        logits = model.lm_head(features[start : start + step]).float()  # (P, V)
        part = slice(ends[start], ends[min(start + step, len(used))])
        row, target = rows_of_targets[part] - start, sorted_targets[part]
        log_probs.append(logits[row, target] - logits.logsumexp(dim=-1)[row])
        for place, source in enumerate(used[start : start + step]):
            if source in barred:
                logits[place, list(barred[source])] = -torch.inf
        greedy.append(logits.argmax(dim=-1)[row] == target)
    unsorted = np.argsort(order)
    return torch.cat(log_probs).cpu().numpy()[unsorted], torch.cat(greedy).cpu().numpy()[unsorted]
