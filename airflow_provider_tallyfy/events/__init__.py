"""Events: what people did in Tallyfy since a place that is kept, each told once."""
