"""What emberq tests itself with, for tests of programs that use it."""
