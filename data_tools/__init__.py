"""Programs that make and look at Caffe's databases. A data set is one module here: see _convert.py."""
