"""Raw folders and tables of images to the tables of a scenario: manifest, locations, splits.

Uses audit, preprocess and readers; `data.add` and the stages may import from here.
"""
