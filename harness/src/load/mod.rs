//! Open-loop load through goose: the schedule decides when, latency counts from the intended start.
