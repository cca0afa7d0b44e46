"""How far results may be from the float64 reference, by dtype; for sums, relative to the size of their terms."""

TOL = {"float32": {"rtol": 2e-6, "atol": 1e-6}, "float64": {"rtol": 1e-14, "atol": 1e-14}}
