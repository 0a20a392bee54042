"""
Fakes, builders and running services that the tests of more than one file use, a module for each subject.

``from tests.support.environment import Environment``. What one file alone needs stays there; fixtures are in the
``conftest.py`` of the narrowest folder.
"""
