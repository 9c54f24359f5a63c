"""LightningModules, optimizers, schedules, the trainer and its callbacks."""
