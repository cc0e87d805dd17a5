"""What models, web pages and neighbours may try against a service, tried: ``make attack``."""
