"""Secrets that no test may find in a message or a log."""

TOKEN = "personal-token-that-must-stay-hidden"
SECRET = "client-secret-that-must-stay-hidden"
