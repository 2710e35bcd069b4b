"""From the records of a database to float32 batches: reader, writer, Datum, transformer, loader. No torch."""
