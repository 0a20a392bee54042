"""A Tallyfy for one machine: the documented REST API, in memory, for writing and testing DAGs without an account.

It stands beside the provider: it imports nothing of it, and nothing of the provider imports it.
"""
