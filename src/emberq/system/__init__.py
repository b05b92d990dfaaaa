"""The operating system: processes, memory, descriptors, files and locks. It knows no job."""
