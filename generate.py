"""Let a checkpoint write.

python generate.py prompt="The airlock"                      the latest run
python generate.py checkpoint=runs/NAME/TIME temperature=0   another run, always the likeliest token
python generate.py --help                                    all settings
"""

from gpt2_lightning.app.early_interrupts import end_without_trace

if __name__ == "__main__":
    end_without_trace()
    from gpt2_lightning.app.main import main

    main("generate")
