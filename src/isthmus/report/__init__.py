"""The report and the model card: what the stages wrote, as text, tables and charts.

Above evaluation and below the registry; reads files and decides nothing.
"""
