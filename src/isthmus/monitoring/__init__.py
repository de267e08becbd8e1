"""Incoming images against the champion's domain, and the next target made from them.

Uses serving and the registry; only the command line and pipelines import from here.
"""
