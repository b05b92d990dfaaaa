"""The warm worker runtime on RQ; knows nothing of documents."""
