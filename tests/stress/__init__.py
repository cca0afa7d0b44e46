"""Scripts that take minutes: ``python -m tests.stress.threads`` and so on. docs/reliability.md has their results.

Each prints what it counted and ends with exit status 1 if anything was wrong.
"""
