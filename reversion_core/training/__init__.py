"""From exemplars and settings to a relation: checks, tensors, losses, and the loop of updates."""
