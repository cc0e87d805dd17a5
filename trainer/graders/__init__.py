"""Graders: text in, reward out. One file a grader; definitions in ``spec``, made to work by ``build``."""
