"""A random network with GPT-2's tokenizer, and its attention."""

from __future__ import annotations

import numpy as np
import torch

from gpt2_lightning.inspection.attention.measure import AttentionMeasurement, measure_attention
from gpt2_lightning.inspection.attention.scores import repeated_sequence
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer

PROMPT = 'One <b>x</b> </script><script>throw 1</script><!-- {{title}} {{data}} &amp; “quoted” 中\nOne "x"\\'

TOKENIZER = GPT2Tokenizer()


def lively(config: GPT2Config, seed: int = 0) -> GPT2:
    torch.manual_seed(seed)
    model = GPT2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def measured(prompt: str = PROMPT, seed: int = 0, ablate: bool = True) -> AttentionMeasurement:
    model = lively(GPT2Config(50257, 101, n_layer=2, n_head=3, n_embd=12), seed)
    ids = torch.from_numpy(TOKENIZER.encode(prompt).astype(np.int64))
    return measure_attention(model, ids, repeated_sequence(50257, 101)[0], f"seed {seed}", ablate)
