"""Additional validation metrics, beside those of the tasks.

A metric is a `torchmetrics.Metric`, of that library or in a file here, with a YAML in `conf/metrics`. It is updated
with the logits (N, V) and targets (N,) of the predicted tokens, or with the logits (B, S) and targets of classified
texts. If its constructor has a parameter `num_classes`, that is set to the last dimension of the logits.
"""
