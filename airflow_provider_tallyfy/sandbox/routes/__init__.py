"""The HTTP side: one module per subject of the API. Handlers never await between reading and writing the store."""
