"""The HTTP routes, one module for each subject. Handlers never await between reading and writing the store."""
