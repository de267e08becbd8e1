"""Adapts a vision model from labelled source images to unlabelled target images."""

import os

from isthmus.core import torchvision_schemas

__version__ = "0.1.0"

# Threads of OpenMP wait without taking the processor from other processes: on shared processors, a ViT-S/14 with
# spinning ones takes ten times as long for an image, tests of training twice (docs/log.md). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
torchvision_schemas.install()
