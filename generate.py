"""Let a checkpoint write.

python generate.py prompt="The airlock"                      the latest run
python generate.py checkpoint=runs/NAME/TIME temperature=0   another run, always the likeliest token
python generate.py --help                                    all settings
"""

import gpt2_lightning.app.early_interrupts  # noqa: F401 - has its effect when it is imported, before all else
from gpt2_lightning.app.main import main

if __name__ == "__main__":
    main("generate")
