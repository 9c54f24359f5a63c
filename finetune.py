"""Fine-tune a GPT-2.

python finetune.py task=classify data=sms_spam data.path=SMSSpamCollection init_from=hf:gpt2@REVISION
python finetune.py task=instruct data=instructions data.path=rows.json init_from=RUN lora=attention
python finetune.py --help                        all settings
"""

from gpt2_lightning.app.early_interrupts import end_without_trace

if __name__ == "__main__":
    end_without_trace()
    from gpt2_lightning.app.main import main

    main("finetune")
