"""
Tallyfy's API as plain values: requests to send and responses to read.

Plain functions and frozen dataclasses. Nothing in this package opens a socket or imports Airflow, so that every
rule about the API can be tested with plain values, and one reading of it serves every caller.
"""
