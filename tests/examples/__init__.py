"""The examples of CONTRIBUTING.md: one new part of each kind."""
