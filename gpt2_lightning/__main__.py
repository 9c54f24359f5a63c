"""Entry point of `python -m gpt2_lightning VERB …` and of the command `gpt2-lightning`."""

from __future__ import annotations

import sys

from gpt2_lightning.app.early_interrupts import end_without_trace

TYPE_CHECKING = False  # as in `typing`, whose import takes longer than all before `end_without_trace`

if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """Run the verb given as the first command-line argument."""
    end_without_trace()
    from gpt2_lightning import __version__
    from gpt2_lightning.app.main import main
    from gpt2_lightning.app.output.exits import fail
    from gpt2_lightning.app.verbs import PURPOSES

    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("GPT-2 Lightning: a GPT-2 from scratch, on PyTorch Lightning and Hydra\n")
        print("usage: gpt2-lightning VERB [key=value …]\n")
        for verb, purpose in PURPOSES.items():
            print(f"  {verb:10} {purpose}")
        print("\ngpt2-lightning VERB --help explains a verb's settings.")
        sys.exit(0)
    if arguments[0] == "--version":
        print(__version__)
        sys.exit(0)
    verb = arguments[0]
    if verb not in PURPOSES:
        import difflib

        near = difflib.get_close_matches(verb, PURPOSES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        fail(f"there is no verb '{verb}'; {hint}There are {', '.join(PURPOSES)}")
    main(verb, arguments[1:])


if __name__ == "__main__":
    run()
