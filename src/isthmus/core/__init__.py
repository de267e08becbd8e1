"""Floor 0: what everything stands on and nothing of the field: errors, configuration, files, seeds, progress."""
