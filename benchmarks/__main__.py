"""Run all benchmarks, in about half an hour.

    python -m benchmarks INPUT.TXT

INPUT.TXT is tinyshakespeare; without it, benchmarks that need it are skipped.
"""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print(__doc__)
        return
    alone = (
        *("startup", "trainer_overhead", "loading", "generation", "precision", "loss_memory"),
        *("attention_explorer", "attention_callback", "muon_step", "weight_averaging", "cost", "serving"),
    )
    with_text = ("nanogpt_loss", "training_step", "muon", "bpe_training", "prepare", "speculation")
    benchmarks = [*([name] for name in alone), *([name, sys.argv[1]] for name in with_text if sys.argv[1:])]
    for name, *arguments in benchmarks:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
