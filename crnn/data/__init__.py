"""From the records of an LMDB to float32 batches: reader, writer, Datum, transformer, loader. No torch."""
