"""Keys and projects: who may use the service, and whose everything is."""
