"""Models that other toolkits have trained, as Translators of ours; what has no counterpart is refused by name."""
