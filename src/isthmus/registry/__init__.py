"""Floor 4: MLflow, lineage, decisions, promotion, model cards."""
