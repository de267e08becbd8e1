"""Raw images to shards: tiling, the fit of a kind on training images, rows written as they come.

Uses kinds and readers; `data.ingest` takes the tiling from here.
"""
