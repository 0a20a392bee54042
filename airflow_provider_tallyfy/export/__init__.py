"""
Write records of runs and tasks as files that a warehouse can load.

``columns`` and ``records`` define what a record holds, ``listing`` finds the runs that changed, ``client`` keeps within
the request budget, ``staging`` keeps what was read until all of it is, ``writers`` write the files, and ``exporter``
combines them. Nothing here depends on DAGs.
"""
