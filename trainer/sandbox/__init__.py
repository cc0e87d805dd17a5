"""Where what strangers say is evaluated: processes without network, files, environment or privileges."""
