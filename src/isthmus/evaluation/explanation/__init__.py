"""Where a network looked: attention rollout, Grad-CAM, and the images they are shown for.

Needs arrays alone; stages and the report may import from here.
"""
