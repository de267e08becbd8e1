"""Boxes around objects: COCO JSON, Pascal VOC XML or YOLO text beside the images (docs/contracts.md, "Boxes")."""

from isthmus.data.boxes import BoxConfig


class Config(BoxConfig):
    """Names of the classes in the annotations."""
