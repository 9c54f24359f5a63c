"""python -m benchmarks INPUT.TXT: all of them; without tinyshakespeare's file, those that need none."""

from __future__ import annotations

import subprocess
import sys


def main() -> None:
    benchmarks = [["startup"], ["trainer_overhead"], *([["nanogpt_loss", sys.argv[1]]] if sys.argv[1:] else [])]
    for name, *arguments in benchmarks:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
