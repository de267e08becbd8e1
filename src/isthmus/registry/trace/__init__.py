"""From a model back to the bytes of its images, and its results made again.

Uses publish and ledger; the gate may import from here.
"""
