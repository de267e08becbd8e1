"""Where results came from: `dvc.lock`, commits of the tree that ran, what the remotes hold.

Knows git and DVC, not MLflow; publishing and everything above may import from here.
"""
