"""Test tools: fault points, a TCP proxy and Valkey servers, for the tests of programs that use emberq."""
