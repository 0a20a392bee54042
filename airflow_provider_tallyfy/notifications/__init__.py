"""Notifiers: what a pipeline tells people through Tallyfy."""
