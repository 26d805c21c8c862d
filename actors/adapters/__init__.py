"""The outside, one product a file, each behind one port of `actors.core.ports`."""
