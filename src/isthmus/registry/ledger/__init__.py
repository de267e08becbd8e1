"""The append-only record of promotions, in SQLite or Postgres.

Uses the store; trace, gate and promotion may import from here.
"""
