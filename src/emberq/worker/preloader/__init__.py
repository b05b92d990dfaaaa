"""The preloader process: loads the resources once, then forks horses on request."""
