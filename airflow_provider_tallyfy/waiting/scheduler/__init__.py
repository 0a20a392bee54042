"""
Which request to send next, so that few requests serve all waits; without I/O, and without a clock.

:mod:`.scheduler` decides, for the waits of :mod:`.waits`. Its parts have one subject each: which runs are due
(:mod:`.agenda`), reading a list of runs (:mod:`.sweep`), what the activity feed hints at (:mod:`.feed`), whether an
optional endpoint is used (:mod:`.endpoint_health`), and how many requests may be sent (:mod:`.budget`).

All times are seconds on one monotonic clock, which callers pass in.
"""
