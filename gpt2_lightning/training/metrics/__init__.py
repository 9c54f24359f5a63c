"""Metrics of the validation beside those of the tasks.

A metric is a `torchmetrics.Metric`, of that library or in a file here, which a YAML in `conf/metrics` names. It is
updated with the logits (N, V) and targets (N,) of the predicted tokens, or with the logits (B, S) and targets of
classified texts. A parameter `num_classes` is given the width of the logits.
"""
