"""Sensors that wait for people."""
