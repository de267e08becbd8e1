"""The registered model from inside: its script, its files, how it decodes images.

Runs without the rest of the registry; publishing and serving may import from here.
"""
