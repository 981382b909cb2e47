"""Text of each reference page, made from the program."""
