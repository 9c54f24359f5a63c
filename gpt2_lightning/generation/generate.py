"""One text from one prompt, in ids."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gpt2_lightning.generation.decoder import Decoder
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.model import GPT2


def generate(model: GPT2, prompt: Tensor, sampling: Sampling, end_of_text: int | None = None) -> Iterator[int]:
    """Yield the ids that follow a prompt (T,), one by one, as they are chosen; see `Decoder`.

    An end of text ends it, and is not yielded.
    """
    for (token,) in Decoder(model, [prompt], sampling, end_of_text=end_of_text):
        if token.finished == "end_of_text":
            return
        yield token.id
