"""Processes of ours: how a command starts, supervises its children, and ends.

Uses `core` alone; stages and everything above may import from here.
"""
