"""
Records of runs and tasks, written as files that a warehouse can load.

``columns`` and ``records`` say what a record holds, ``listing`` finds the runs that changed, ``client`` keeps within
the request budget, ``staging`` keeps what was read until all of it is, ``writers`` make the files, and ``exporter``
puts them together. Nothing here knows of DAGs.
"""
