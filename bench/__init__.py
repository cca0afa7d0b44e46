"""fastnn measured against its peers: ``pytest --benchmark-only``, and ``bench/report.py`` for saved runs."""
