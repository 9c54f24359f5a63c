"""Size of the attention explorer of a model with 12 layers of 12 heads, and the time a browser takes to open it.

    python -m benchmarks.attention_explorer

The browser is headless Chromium, restarted for each page, which is opened from disk. The time is from the start of
reading the file until the page is laid out, measured by `performance.now()` in the page.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.results import report
from gpt2_lightning.inspection.attention.explorer import explorer
from gpt2_lightning.inspection.attention.measure import measure_attention
from gpt2_lightning.inspection.attention.scores import repeated_sequence
from gpt2_lightning.model import GPT2, GPT2Config
from gpt2_lightning.tokenizers import GPT2Tokenizer

_TOKENS = (128, 512)
_TURNS = 5
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_CLOCK = """<script>
document.body.offsetHeight;
document.title = `opened after ${performance.now()} ms`;
</script></body>"""


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("error: chromium is not on PATH; install it")
    torch.manual_seed(0)
    model = GPT2(GPT2Config()).eval()
    repeated, description = repeated_sequence(model.config.vocab_size, model.config.block_size)
    figures: dict[str, float] = {}
    for tokens in _TOKENS:
        ids = torch.randint(model.config.vocab_size, (tokens,))
        started = time.perf_counter()
        inspected = measure_attention(model, ids, repeated, "random weights")
        figures[f"seconds to read {tokens} tokens"] = round(time.perf_counter() - started, 2)
        started = time.perf_counter()
        page = explorer([inspected], GPT2Tokenizer(), description, (0, 0), tokens - 1)
        figures[f"seconds to make the page of {tokens} tokens"] = round(time.perf_counter() - started, 2)
        figures[f"megabytes of the page of {tokens} tokens"] = round(len(page.encode()) / 1e6, 2)
        opened = statistics.median(_milliseconds_to_open(page, chromium) for _ in range(_TURNS))
        figures[f"milliseconds to open {tokens} tokens"] = round(opened)
    report("attention_explorer", figures)


def _milliseconds_to_open(page: str, chromium: str) -> float:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "explorer.html"
        file.write_text(page.replace("</body>", _CLOCK), encoding="utf-8")
        command = [chromium, *_FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (milliseconds,) = re.findall(r"<title>opened after ([\d.]+) ms</title>", done.stdout)
    return float(milliseconds)


if __name__ == "__main__":
    main()
