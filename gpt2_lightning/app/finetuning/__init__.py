"""Tasks of `finetune`. To add one: a file with a class such as `pretrain.Pretrain`, and a YAML in `conf/task`."""
