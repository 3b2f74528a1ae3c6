"""Raw files to prepared data: reading, checking, cleaning, splitting, writing."""
