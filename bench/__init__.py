"""fastnn measured against its peers: ``python -m bench.steps`` and ``python -m bench.startup``."""
