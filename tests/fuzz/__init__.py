"""Fuzzing of the parsers: mutated files must give a result or a UserError, in bounded time and memory."""
