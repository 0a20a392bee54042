"""Operators that move data out of Tallyfy."""
