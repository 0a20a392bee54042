"""Events: what users did in Tallyfy since a stored cursor, each fired once."""
