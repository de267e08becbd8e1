"""What is wrong or odd with raw images: duplicates, contradictions, shortcuts, label noise, limits.

Knows facts and small pictures, never a folder; `data.ingest` and `data.add` may import from here.
"""
