"""Speed of training and decoding on one GPU: tokens per second, MFU and memory, and what each measure for speed brings.

    python -m benchmarks.gpu [PART …] [budget=540] [output=FOLDER]
    python -m benchmarks.gpu list

All parts are measured, or those that are named, by a name or a group of `list`; the most important first, for at most
`budget` seconds. Each part has a process of its own: one that fails is a line of the table, with its error. After every
part, `output` has the results so far: `gpu.json`, `gpu.md` with the table, `gpu_profile.txt` with the kernels of a step
that take the longest, and `gpu.log` with what the parts printed. By default, it is `benchmarks/results` if all parts
are measured; named parts are only printed.

`device=cpu` executes the same code with tiny models on a CPU, and only prints by default. No network is needed: the
text and GPT-2's vocabulary are in the package.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks import results
from benchmarks.gpu import report
from benchmarks.gpu.parts import PARTS, chosen
from benchmarks.gpu.process import PartProcess
from benchmarks.gpu.rows import Row
from benchmarks.gpu.scale import SCALES

_LEAST_SECONDS = 15
"""Time left below which no further part is started."""
_MOST_SECONDS = 120
"""Time after which a part is ended."""


def main() -> None:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return
    if arguments == ["list"]:
        for name, part in PARTS.items():
            print(f"{name:24} {part.title}")
        return
    settings = dict(word.split("=", 1) for word in arguments if "=" in word)
    names = chosen([word for word in arguments if "=" not in word])
    device, budget = settings.pop("device", "cuda"), float(settings.pop("budget", 540))
    everything = device == "cuda" and len(names) == len(PARTS)
    output = settings.pop("output", str(results.FOLDER) if everything else None)
    if settings or device not in SCALES:
        raise SystemExit(f"unknown arguments; {__doc__}")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("python -m benchmarks.gpu needs an NVIDIA GPU, and a torch built for it; there is none")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the processes of the parts
    rows = measure(names, device, budget, None if output is None else Path(output))
    print(report.table(rows))


def measure(names: list[str], device: str, budget: float, output: Path | None) -> list[Row]:
    """Measure parts one after another; the process of the next one imports meanwhile.

    Args:
        names: names of the parts.
        device: `cuda` or `cpu`.
        budget: seconds for all of them.
        output: folder of the results, which are written after every part; None to write none.
    """
    ends_at = time.monotonic() + budget
    rows: list[Row] = []
    with ExitStack() as opened:
        # Empty at the beginning, so that compilation is measured; parts share it, so that it is paid once.
        cache = opened.enter_context(tempfile.TemporaryDirectory())
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": f"{cache}/triton"}

        def start(name: str) -> PartProcess:
            return opened.enter_context(PartProcess(name, device, environment))

        following = start(names[0])
        for name, after in zip(names, [*names[1:], None], strict=True):
            left = ends_at - time.monotonic()
            if left < _LEAST_SECONDS:
                rows.append({"name": name, "error": f"not measured: the {budget:.0f} s are over"})
                continue
            process = following
            if after is not None:
                following = start(after)
            found, log = process.measure(min(left, _MOST_SECONDS))
            rows += found
            for row in found:
                print(report.line(row), flush=True)
            if output is not None:
                report.save(rows, output)
                with (output / "gpu.log").open("a") as file:
                    file.write(f"== {name}\n{log}")
        if output is not None:
            report.save(rows, output)
    return rows


if __name__ == "__main__":
    main()
