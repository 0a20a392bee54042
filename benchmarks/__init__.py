"""What waits, watchers of events, and exports cost."""
