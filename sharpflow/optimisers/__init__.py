"""Update rules, each with its state, stability threshold and preconditioner; one a folder."""
