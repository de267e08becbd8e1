"""Scores against labels: target accuracy after the choice, corruptions, transferability.

Uses metrics; stages may import from here.
"""
