"""How far away the annotated objects are, which of them cannot be where or as large as they are said to be, and which are far.

`statistics.py` reads depths off a map, `table.py` keeps them by annotation, `sizes.py` and `distances.py` say what is unusual for
a class, `thirds.py` parts each class by depth, and `check.py` makes findings, tables and tags.
"""
