"""The MLflow store: opened, made, repaired after a kill, found again after a move.

The lowest room of the registry; all others may import from here.
"""
