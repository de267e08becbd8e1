"""Scores candidate and champion on the frozen evaluation set and writes the decision.

Uses `isthmus.gates` for the rules; promotion may import from here.
"""
