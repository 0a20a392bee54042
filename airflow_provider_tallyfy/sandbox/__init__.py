"""A local Tallyfy: the documented REST API, in memory, to write and test DAGs without an account.

It is independent of the provider: neither imports anything of the other.
"""
