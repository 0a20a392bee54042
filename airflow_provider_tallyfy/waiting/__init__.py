"""
Waiting for people: the rule that decides that a wait is over, and the watcher that looks.

Waiting is kept apart from deciding. A *look* reads a run (:mod:`.looks`); a *condition* makes a *verdict* of what
was seen (:mod:`.verdicts`, :mod:`.next_task`). Poke, reschedule and deferrable mode differ only in who looks when.
"""
