"""Public pairs that `isthmus fetch` downloads: origin, licence, checksums, download.

Uses `data.add` to register a pair; only the command line imports from here.
"""
