"""The HTTP server of a recommender."""
