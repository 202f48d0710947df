"""What a monitor sees of a rollout: samples of counters that it scrapes, asked in PromQL."""
