"""Multi-scenario networks: one impression belongs to one of several scenarios (surfaces, countries)."""
