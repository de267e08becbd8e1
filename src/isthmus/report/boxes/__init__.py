"""Page, model card, cases and pictures of tasks whose answers are boxes.

Uses the rest of the report, and cases and pictures of masks.
"""
