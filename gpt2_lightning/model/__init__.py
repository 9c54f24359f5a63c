"""GPT-2, written out. This room imports torch and nothing else.

Read in this order: `config`, `gpt2`, `layers`, `attention`, `kernels.explicit`, `positions`.

Letters used in shape comments: B batch, T tokens of the query, S tokens of the key (T plus what is cached),
C = n_embd channels, H = n_head heads, D = C / H channels of one head, V = vocab_size.
"""

from gpt2_lightning.model.config import GPT2Config
from gpt2_lightning.model.gpt2 import GPT2
from gpt2_lightning.model.inference.kv_cache import KVCache
from gpt2_lightning.model.loss import cross_entropy

__all__ = ["GPT2", "GPT2Config", "KVCache", "cross_entropy"]
