"""Sharpness in trainers and loggers of others, each in a module that imports what it is for."""
