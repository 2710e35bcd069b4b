"""The systems themselves, one folder each: nets, solvers and a README."""
