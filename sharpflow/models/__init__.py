"""Networks as pure functions of parameters that carry a leading *run* dimension; one a folder."""
