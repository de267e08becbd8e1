"""Public pairs that `isthmus fetch` brings: origin, licence, checksums, download.

Uses `data.add` to register a pair; only the command line imports from here.
"""
