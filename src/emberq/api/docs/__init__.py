"""The page `/docs`: the API's description in Swagger UI, with nothing from another server."""
