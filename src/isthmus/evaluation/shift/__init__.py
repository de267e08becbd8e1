"""How far two domains lie apart: distances of features, class shares, membership of one image.

Uses numbers of `evaluation` alone; selection and confidence may import from here.
"""
