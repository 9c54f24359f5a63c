"""Text generation.

`settings`, `filters`, `penalties`, `constraints`, `processors`, `sampling` and `beams` choose tokens; `reader` runs the
model; `decoder` is the loop over both, `static_steps` the one for GPUs; `text` decodes the tokens.
"""

from gpt2_lightning.generation.decoder import Decoder, Token, generate, search
from gpt2_lightning.generation.settings import Sampling
from gpt2_lightning.generation.text import Piece, write

__all__ = ["Decoder", "Piece", "Sampling", "Token", "generate", "search", "write"]
