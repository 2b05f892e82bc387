"""Courses of the learning rate; one a folder."""
