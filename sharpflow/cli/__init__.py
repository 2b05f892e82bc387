"""The command line: a thin layer over the configuration, the workflow and its results.

A module a command's work, each with plain functions; `app` reads the words and prints. What only
some commands need (PyTorch, pandas) is imported by them.
"""
