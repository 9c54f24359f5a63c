"""python -m benchmarks INPUT.TXT: all of them; without tinyshakespeare's file, those that need none."""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    with_text = ("nanogpt_loss", "bpe_training") if sys.argv[1:] else ()
    benchmarks = [["startup"], ["trainer_overhead"], *([name, sys.argv[1]] for name in with_text)]
    for name, *arguments in benchmarks:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
