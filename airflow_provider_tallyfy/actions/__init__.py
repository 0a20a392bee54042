"""Writes to Tallyfy that take effect once, however often they are attempted."""
