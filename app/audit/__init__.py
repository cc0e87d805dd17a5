"""The audit log over HTTP: who changed what, as app.core.audit writes it down."""
