"""Floor 3: the loop, its data, its optimiser, its checkpoints."""
