"""Tasks to fine-tune for. To add one: a file with a class such as `pretrain.Pretrain`, and a YAML in `conf/task`."""

from gpt2_lightning.app.finetuning.context import Beginning

__all__ = ["Beginning"]
