"""A registered model behind HTTP or on a folder of files, in a process of its own.

Uses the registry; monitoring and the command line may import from here.
"""
