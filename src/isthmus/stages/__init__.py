"""Floor 5: one module a stage; files in, files out."""
