"""A user's own folders become a scenario: layout, plan, copy, DVC and a section of `params.yaml`.

Uses `data.ingest`; `data.catalog` and the command line may import from here.
"""
