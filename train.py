"""Pre-train a GPT-2.

python train.py                                  a small model on the embedded science fiction
python train.py model=gpt2_124m data=scifi       another size
python train.py --help                           all settings
"""

from gpt2_lightning.app.early_interrupts import end_without_trace

if __name__ == "__main__":
    end_without_trace()
    from gpt2_lightning.app.main import main

    main("train")
