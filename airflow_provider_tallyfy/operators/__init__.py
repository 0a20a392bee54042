"""Operators that act on Tallyfy, and the link to what they acted on."""
