"""What runs inside a sandbox, with the standard library and the packages of its service alone."""
