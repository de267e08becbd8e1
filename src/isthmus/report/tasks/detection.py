"""Boxes around objects."""

from isthmus.report.box_report import BoxReport


class Report(BoxReport):
    """Of boxes."""
