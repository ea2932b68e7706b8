"""Training that pruning and distillation share: parts of the data, losses, the loop with early stop, what is kept."""
