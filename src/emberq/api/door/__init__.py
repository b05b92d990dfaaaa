"""The front door: what every connection and every request has to pass before it is routed."""
