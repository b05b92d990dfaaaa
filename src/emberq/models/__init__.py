"""Embedding and reranking models: their files, their inference, and the queue in front of them."""
