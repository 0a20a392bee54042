"""``make bench``: what a wait costs here, and what it costs with the HTTP provider's trigger, side by side."""
