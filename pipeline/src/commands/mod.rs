//! What the binary can be asked to do: one file for each command, with its arguments.
