"""Files that are whole or absent: `files` (atomic writes), `tables` (Parquet), `tensors`.

Import the modules by name: only `tensors` needs torch.
"""
