"""Resources and connections: what is loaded once per host, and what each horse opens for itself."""
