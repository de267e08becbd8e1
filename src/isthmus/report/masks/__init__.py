"""Page, model card, cases and pictures of tasks whose answers are masks.

Uses the rest of the report; boxes and defects draw with its pictures.
"""
