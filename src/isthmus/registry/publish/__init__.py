"""From the stages' files to MLflow runs and registered models.

Uses store, lineage and model; the gate and everything above may import from here.
"""
