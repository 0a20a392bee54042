"""
Waiting for people: when a wait may end, and how to poll for many.

A *poll* returns a snapshot of a run, or an error (:mod:`.polls`). A *condition* evaluates what the snapshot shows
(:mod:`.next_task`, :mod:`.task_done`, :mod:`.run_status`), and :mod:`.evidence` decides whether that ends the wait. A
worker polls for itself (:mod:`.worker`). In a triggerer, a watcher polls for all waits (:mod:`.watcher`), in the order
that a scheduler chooses (:mod:`.scheduler`). Poke, reschedule and deferrable mode differ only in who polls when.
"""
