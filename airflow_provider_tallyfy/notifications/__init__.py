"""Notifiers for callbacks, deadlines and gates."""
