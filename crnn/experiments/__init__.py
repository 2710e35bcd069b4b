"""What is done with trained nets: exact scores, comparisons, and the data of reports."""
