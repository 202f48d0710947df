"""Notebooks: run and compared, rendered as pages that open offline, collected in a site."""
