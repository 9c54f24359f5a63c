"""Tasks of `finetune`. A new task is a module with a class such as `pretrain.Pretrain`, and a YAML in `conf/task`."""
