"""The commands, one module each: the steps of a command in order, without nested abstractions."""
