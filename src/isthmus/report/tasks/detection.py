"""Boxes around objects."""

from isthmus.report.boxes.report import BoxReport


class Report(BoxReport):
    """Of boxes."""
