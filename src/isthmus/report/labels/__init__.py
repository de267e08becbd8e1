"""The list and the page of target images that a person should label first.

Uses the report's thumbnails; `isthmus label` and the stages import from here.
"""
