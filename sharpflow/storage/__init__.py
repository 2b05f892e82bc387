"""Files that are whole or absent, and say when they are not what was written.

`files` writes atomically, `seal` adds a checksum that is checked on reading; `tables` (Parquet) and
`tensors` (safetensors) are sealed. Import the modules by name: only `tensors` needs torch.
"""
