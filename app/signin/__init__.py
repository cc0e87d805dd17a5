"""Signing in to the dashboard with an identity provider (OpenID Connect), beside signing in with a key."""
