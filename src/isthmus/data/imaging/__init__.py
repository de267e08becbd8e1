"""Operations on the pixels of one image that several kinds share: bands, ranges, grids, stains.

Uses `data.image`; readers and kinds may import from here.
"""
