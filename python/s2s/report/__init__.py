"""What people read about a model: scores, alignments, pictures, records, what runs."""
