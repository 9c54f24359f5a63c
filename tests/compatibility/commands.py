"""The command lines that made the fixtures, and those whose results are compared between versions.

All run in a folder that holds the fixtures, and all paths are relative to it.
"""

from __future__ import annotations

_SHORT = """trainer=cpu trainer.max_steps=50 trainer.val_check_interval=25 trainer.log_every_n_steps=5 batch_size=4
    callbacks.checkpoint.every_n_steps=25 callbacks.samples=null optimizer.lr=0.03 schedule.warmup_steps=5"""
_TEXT = "data=text data.path=text.txt cache_dir=cache"
_BPE = "tokenizer=bpe tokenizer.vocab_size=272"
_SETTINGS = f"model=tiny model.n_embd=8 {_TEXT} {_SHORT}"
_FINETUNE = f"finetune {_SHORT} trainer.max_epochs=null init_from=bpe"
_CLASSIFY = f"{_FINETUNE} task=classify data=table data.path=rows.csv"
_INSTRUCT = f"{_FINETUNE} task=instruct data=instructions data.path=questions.json data.input_column=null"
_TRIALS = f"{_SETTINGS} trainer.max_steps=2 model.n_layer=1"

STOPPED_AFTER = 37
"""Optimizer steps that the run `interrupted` took before SIGTERM."""

INTERRUPTED = f"train {_SETTINGS} run_dir=interrupted"
RESUME = f"{INTERRUPTED} resume=here"
"""Goes on with it; in the end it equals the run `chars`."""

MAKE = {
    "chars": f"train {_SETTINGS} run_dir=chars",
    "bpe": f"train {_SETTINGS} {_BPE} model.block_size=96 model.n_layer=1 optimizer=muon run_dir=bpe",
    "sinusoidal": f"train {_SETTINGS} model.positions=sinusoidal schedule=wsd run_dir=sinusoidal",
    "single": f"{_CLASSIFY} data.label_column=color run_dir=single",
    "multi": f"{_CLASSIFY} data.label_column=colors data.kind=multi data.separator=/ run_dir=multi",
    "scores": f"{_CLASSIFY} data.label_column=score data.kind=regression task.reads=mean run_dir=scores",
    "instruct": f"{_INSTRUCT} template=chatml run_dir=instruct",
    "lora": f"{_FINETUNE} task=pretrain {_TEXT} lora=attention lora.rank=2 run_dir=lora",
    "huggingface": "convert source=bpe target=huggingface",
    "peft": "convert source=lora target=peft to=peft base_name=bpe",
    "shards": f"prepare {_TEXT} {_BPE} output=shards",
    "sweep": f"train -m {_TRIALS} optimizer.lr=0.02,0.05 hydra.sweep.dir=sweep",
    "study": f"sweep {_TRIALS} trials=2 study_dir=study optimizer.lr=tag(log,interval(1e-3,1e-1))",
}
"""The command that makes each folder, in this order."""

_MODELS = ["chars", "interrupted", "bpe", "sinusoidal", "instruct", "lora", "huggingface", "peft", "sweep/1"]
_BASES = {"lora": "base=bpe", "peft": "base=bpe"}
_CHOICES = {"greedy": "temperature=0", "sampled": "temperature=1 top_k=5 seed=3"}
ANSWERS = {
    f"{kind}-{model.replace('/', '-')}": f"generate checkpoint={model} {_BASES.get(model, '')} prompts=prompts.txt "
    f"max_new_tokens=12 log_probabilities=2 {choice}"
    for model in _MODELS
    for kind, choice in _CHOICES.items()
} | {f"predicted-{model}": f"predict checkpoint={model} texts=rows.csv" for model in ("single", "multi", "scores")}
"""Commands that answer in a JSONL file, `output=`."""
