"""The commands of `emberq openwebui`."""
