"""The commands of `nin`, a file each: parse, call, print."""
