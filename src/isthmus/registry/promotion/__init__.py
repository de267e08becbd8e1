"""Moves the aliases champion and previous, with every decision verified first.

The highest room of the registry.
"""
