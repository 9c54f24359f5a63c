"""What happens to a batch: the LightningModule, optimizers, schedules, the trainer and its callbacks."""
