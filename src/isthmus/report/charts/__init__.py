"""Charts of the report: shapes as inline SVG, the figures that the page shows, and the tables behind them.

Uses the report's results and formatting; the pages of all tasks may import from here.
"""
