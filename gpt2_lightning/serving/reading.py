"""What a model reads in a text: the distribution of the next token, probabilities of the tokens, and attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2_lightning.generation import Sampling
from gpt2_lightning.generation.processors import LogitsProcessor
from gpt2_lightning.generation.reader import cache_dtype
from gpt2_lightning.model import KVCache
from gpt2_lightning.serving.models import ServedModel
from gpt2_lightning.serving.schemas import Alternative, AttentionAnswer, NextAnswer, NextToken, TokenDetail

_POSITIONS = 64
"""Positions whose logits are computed at a time: those of a whole text would take more memory than the model."""


class TextReader:
    """Reads texts with one model, in the engine's thread. Keys and values of the last text are kept: pages ask for one
    text again and again, with other settings or for the attention of another token.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        self._cache: KVCache | None = None
        self._ids: list[int] = []
        """The tokens whose keys and values are in the cache."""

    @torch.inference_mode()
    def token_details(self, ids: Sequence[int], count: int) -> list[TokenDetail]:
        """The tokens of a text within the context, with `count` alternatives of each."""
        model = self.served.model
        text = torch.tensor(ids, device=model.wte.weight.device)
        features = model.features(text[:-1].unsqueeze(0))[0] if len(ids) > 1 else None  # (T - 1, C)
        found = [TokenDetail(id=ids[0], text=self.served.token_text(ids[0]), logprob=None)]
        if features is None:
            return found
        for part, targets in zip(features.split(_POSITIONS), text[1:].split(_POSITIONS), strict=True):
            log_probabilities = model.lm_head(part).float().log_softmax(dim=-1)  # (P, V)
            chosen = log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)
            top, top_ids = log_probabilities.topk(min(count, log_probabilities.size(-1)))
            columns = (targets.tolist(), chosen.tolist(), top_ids.tolist(), top.tolist())
            found += [
                detail(self.served, token, logprob, list(zip(*pairs, strict=True)))
                for token, logprob, *pairs in zip(*columns, strict=True)
            ]
        return found

    @torch.inference_mode()
    def next_token(
        self, ids: Sequence[int], sampling: Sampling, count: int, tokens: Sequence[TokenDetail]
    ) -> NextAnswer:
        """The distribution of the token after a text within the context.

        Args:
            ids: of the text.
            sampling: bias, temperature and filters.
            count: tokens to list.
            tokens: what `NextAnswer.tokens` is.
        """
        served, model = self.served, self.served.model
        hidden = self._read_last(list(ids))
        logits = model.lm_head(hidden).float()  # (1, V)
        log_probabilities = logits.log_softmax(dim=-1)
        empty = torch.zeros(1, 1, dtype=torch.int64, device=logits.device)
        length = empty[0] + 1
        scores = LogitsProcessor(sampling, (), logits.size(-1), logits.device)(logits, empty, length, length)
        if sampling.temperature == 0:
            chosen = torch.zeros_like(scores).scatter(1, scores.argmax(dim=-1, keepdim=True), 1.0)
        else:
            chosen = sampling.filtered(scores).softmax(dim=-1)
        top, top_ids = log_probabilities[0].topk(min(count, logits.size(-1)))
        listed = zip(top_ids.tolist(), top.exp().tolist(), chosen[0, top_ids].tolist(), strict=True)
        probabilities = log_probabilities.exp()
        return NextAnswer(
            model=served.name,
            tokens=list(tokens),
            distribution=[
                NextToken(id=token, text=served.token_text(token), probability=p, chosen_with=q)
                for token, p, q in listed
            ],
            rest=max(0.0, 1.0 - float(top.exp().sum())),
            kept=int((chosen > 0).sum()),
            entropy=float(-(probabilities * log_probabilities).nansum()),
        )

    @torch.inference_mode()
    def attention(self, ids: Sequence[int], query: int) -> AttentionAnswer:
        """The attention of one token of a text within the context to those before it and itself."""
        weights: list[Tensor] = []
        self._read_last(list(ids[: query + 1]), weights)
        rounded = (torch.cat(weights)[:, :, 0].float() * 10_000).round().cpu()  # (L, H, S)
        return AttentionAnswer(
            model=self.served.name,
            ids=list(ids),
            texts=[self.served.token_text(token) for token in ids],
            query=query,
            weights=[[[value / 10_000 for value in head] for head in layer] for layer in rounded.tolist()],
        )

    def _read_last(self, ids: list[int], weights: list[Tensor] | None = None) -> Tensor:
        """Features of the last token, (1, C), with keys and values of the tokens before it that are cached."""
        model = self.served.model
        weight = model.wte.weight
        if self._cache is None:
            self._cache = KVCache(model.config, 1, weight.device, cache_dtype(weight))
        pairs = enumerate(zip(self._ids, ids, strict=False))
        common = next((at for at, (old, new) in pairs if old != new), min(len(self._ids), len(ids)))
        known = min(common, len(ids) - 1)
        text = torch.tensor([ids], device=weight.device)  # (1, T)
        self._cache.lengths = [known]
        if known < len(ids) - 1:
            model.features(text[:, known:-1], cache=self._cache)
        x = model.features(text[:, -1:], cache=self._cache, attn_weights=weights)[:, -1]
        if common < len(ids):  # else the cache holds this text and more of the one before
            self._ids = ids
        return x


def detail(
    served: ServedModel, token: int, logprob: float | None, likeliest: Sequence[tuple[int, float]]
) -> TokenDetail:
    """A token with its alternatives."""
    alternatives = [Alternative(id=i, text=served.token_text(i), logprob=value) for i, value in likeliest]
    return TokenDetail(id=token, text=served.token_text(token), logprob=logprob, alternatives=alternatives)
