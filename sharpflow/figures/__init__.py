"""What a figure is, the house style, and what figures of one kind share."""
