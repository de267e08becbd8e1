"""What the readers know of file formats beyond their libraries: headers, allowed tags, map scales.

Uses `data`'s own modules alone; `data.readers` and what checks files may import from here.
"""
