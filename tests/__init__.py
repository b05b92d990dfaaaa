"""Tests of emberq on four floors: unit, integration, acceptance, chaos.

`unit` and `integration` mirror `src/emberq`, room by room. `acceptance` and `chaos` are sorted by subject.
`harness` holds what tests share, `jobs` the modules that tests and the workers they start both import.
"""
