"""Fine-tune a GPT-2.

python finetune.py task=classify data=sms_spam data.path=SMSSpamCollection init_from=hf:gpt2@REVISION
python finetune.py task=instruct data=instructions data.path=rows.json init_from=RUN lora=attention
python finetune.py --help                        all settings
"""

import gpt2_lightning.app.early_interrupts  # noqa: F401 - has its effect when it is imported, before all else
from gpt2_lightning.app.main import main

if __name__ == "__main__":
    main("finetune")
