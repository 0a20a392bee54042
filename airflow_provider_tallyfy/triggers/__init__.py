"""The triggers behind the sensors."""
