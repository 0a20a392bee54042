"""
Which request to send next, so that every wait is served with few requests; without I/O, and without a clock.

:mod:`.scheduler` decides. It knows the runs that are waited for (:mod:`.waits`), and has four parts with one
subject each: which runs are due (:mod:`.agenda`), the way through a list of runs (:mod:`.sweep`), what the activity
feed hints at (:mod:`.feed`), and whether an optional endpoint is used (:mod:`.endpoint_health`). A fifth,
:mod:`.budget`, bounds the number of requests.

All times are seconds on one monotonic clock, which callers pass in.
"""
