"""How certain the chosen model is: calibration, coverage, estimated accuracy, images to label first.

Uses selection and shift; the report and the registry may import from here.
"""
