"""GPT-2 in PyTorch.

`reference` is the forward pass in its plainest form, `gpt2` the network that trains, on one page; `kernels.explicit`
has the formulas. `inference` adds the KV cache, packed weights and compilation, `lora` adapters.

Letters in shape comments: B batch, T query tokens, S key tokens (T, and those in the cache), C = n_embd channels,
H = n_head heads, D = C / H channels of a head, V = vocab_size.
"""

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.gpt2 import GPT2
from gpt2_lightning.model.inference.kv_cache import KVCache
from gpt2_lightning.model.loss import cross_entropy

__all__ = ["GPT2", "GPT2Config", "KVCache", "cross_entropy"]
