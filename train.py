"""Pre-train a GPT-2.

python train.py                                  a small model on the embedded science fiction
python train.py model=gpt2_124m data=scifi       another size
python train.py --help                           all settings
"""

import gpt2_lightning.app.early_interrupts  # noqa: F401 - has its effect when it is imported, before all else
from gpt2_lightning.app.main import main

if __name__ == "__main__":
    main("train")
