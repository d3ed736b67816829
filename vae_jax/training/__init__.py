"""From a config to trained weights: model, optimizer, step, checkpoint."""
