"""Chooses a method without target labels: candidates, guards, the rule.

Uses validators and shift; `evaluation.confidence` and the report may import from here.
"""
