"""The checks of `emberq openwebui doctor`."""
