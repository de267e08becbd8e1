"""Adapts a vision model from labelled source images to unlabelled target images."""

from isthmus.core import torchvision_schemas

__version__ = "0.1.0"

torchvision_schemas.install()
