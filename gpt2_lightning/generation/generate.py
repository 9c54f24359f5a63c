"""Generation of one text, as ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from gpt2_lightning.generation.decoder import Decoder
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.model import GPT2


def generate(
    model: GPT2, prompt: Tensor, sampling: Sampling, end_of_text: int | Collection[int] | None = None
) -> Iterator[int]:
    """Yield the ids generated after a prompt (T,), up to an end of text, which is not yielded; see `Decoder`."""
    for (token,) in Decoder(model, [prompt], sampling, end_of_text=end_of_text):
        if token.finished == "end_of_text":
            return
        yield token.id
