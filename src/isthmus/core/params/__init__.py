"""`params.yaml` as a file: read and changed with its comments kept, and the copy that a run works from.

Uses `core` alone; stages and everything above may import from here.
"""
