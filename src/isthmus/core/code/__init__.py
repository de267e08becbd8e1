"""Which code a result was made with: the fingerprint of what a stage uses, and which release a project was made for.

Uses `core` alone; stages and everything above may import from here.
"""
