"""Speed of the ops and of whole nets against peers in the same run. Needs torch, numpy and protobuf alone.

python benchmarks/run.py      one op against its peers      python benchmarks/train.py    whole nets
benchmarks/gpu.sh             all of it on a GPU machine    results/                      what was measured
"""
