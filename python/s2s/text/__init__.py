"""From files of texts to batches of ids: pairs, cleaning, vocabularies, the data that a demo makes."""
